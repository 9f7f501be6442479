"""Compute one measure of one run: results/runs/<run>/measures/<measure>.zarr, <measure>[step, layer] float64."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]):
    from reluscope.stages.measuring import measure_run

    measure_run(snakemake.wildcards.measure, snakemake.params.options, snakemake.input.shards, snakemake.output[0])
