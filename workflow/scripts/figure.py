"""Draw one figure: results/figures/<figure>.png and .pdf."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope.stages.drawing import draw_figure
    from reluscope.study import Study

    draw_figure(Study.from_config(snakemake.config, files_as_listed=True), snakemake.wildcards.figure, snakemake.output)
