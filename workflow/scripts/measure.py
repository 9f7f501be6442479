"""Compute one measure of one run: results/runs/<run>/measures/<measure>.zarr, <measure>[step, layer] float64."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope.stages.measuring import measure_run
    from reluscope.study import Study

    measures = Study.from_config(snakemake.config, files_as_listed=True).measures_of(snakemake.wildcards.run)
    measure_run({snakemake.output[0]: measures[snakemake.wildcards.measure]}, snakemake.input.shards)
