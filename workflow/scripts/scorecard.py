"""Hold the paper's claims against the study: results/scorecard.md and .csv, one line a claim."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope import paths
    from reluscope.stages.scoring import score_study
    from reluscope.study import Study

    made = snakemake.output
    study = Study.from_config(snakemake.config, files_as_listed=True)
    score_study(study, made.markdown, made.table, paths.folder(made.markdown, paths.scorecard("md")))
