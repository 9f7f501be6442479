"""Hold the paper's claims against the study: results/scorecard.md and .csv, one line a claim."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope.stages.scoring import score_study
    from reluscope.study import Study

    score_study(
        Study.from_config(snakemake.config, files_as_listed=True), snakemake.output.markdown, snakemake.output.table
    )
