"""Compute one measure of one run: results/runs/<run>/measures/<measure>.zarr, <measure>[step, layer] float64."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope.stages.shared_pass import measure_together
    from reluscope.study import Study

    run, measure = snakemake.wildcards.run, snakemake.wildcards.measure
    measures = Study.from_config(snakemake.config, files_as_listed=True).measures_of(run)
    measure_together(run, measure, measures, snakemake.input.shards, snakemake.output[0])
