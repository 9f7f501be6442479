"""Train one run: results/runs/<run>/weights.zarr, parameters[parameter, step] float32 and what belongs to them."""

from reluscope.stages.gpus import one_gpu
from reluscope.stages.jobs import logged

with logged(snakemake.log[0]), one_gpu(snakemake.resources.get("jobs_per_gpu")):  # before torch is imported
    from reluscope.stages.training import train_run
    from reluscope.study import Study

    study = Study.from_config(snakemake.config, files_as_listed=True)
    elsewhere = snakemake.config.get("resume_elsewhere") in (True, "true")
    settings = {"study": study.name, "threads": snakemake.threads, "resume_elsewhere": elsewhere}
    train_run(study.runs[snakemake.wildcards.run], snakemake.output[0], **settings)
