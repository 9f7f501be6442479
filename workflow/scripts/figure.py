"""Draw one figure: results/figures/<figure>.png and .pdf."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope import paths
    from reluscope.stages.drawing import draw_figure
    from reluscope.study import Study

    figure = snakemake.wildcards.figure
    study = Study.from_config(snakemake.config, files_as_listed=True)
    draw_figure(study, figure, snakemake.output, paths.folder(snakemake.output.png, paths.figure(figure, "png")))
