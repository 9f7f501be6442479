"""Count one shard: results/runs/<run>/counts/<shard>.zarr, per layer keys, counts and indptr of every counted step."""

from reluscope.stages.gpus import one_gpu
from reluscope.stages.jobs import logged

with logged(snakemake.log[0]), one_gpu(snakemake.resources.get("jobs_per_gpu")):  # before torch is imported
    from reluscope import paths
    from reluscope.stages.counting import count_shard
    from reluscope.study import Study

    run = Study.from_config(snakemake.config, files_as_listed=True).runs[snakemake.wildcards.run]
    source = snakemake.input.weights if run.is_trained else paths.manifest(run.name)
    count_shard(run, snakemake.wildcards.shard, source, snakemake.output[0], threads=snakemake.threads)
