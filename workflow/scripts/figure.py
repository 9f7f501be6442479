"""Draw one figure: results/figures/<figure>.png and .pdf."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope import paths
    from reluscope.stages.drawing import draw_figure
    from reluscope.study import Study

    figure = Study.from_config(snakemake.config).figures[snakemake.wildcards.figure]
    stores = {(run, m): paths.measure(run, m) for runs in figure.runs.values() for run in runs for m in figure.measures}
    draw_figure(figure, stores, snakemake.output)
