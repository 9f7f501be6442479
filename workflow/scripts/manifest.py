"""List the files of one run: results/runs/<run>/manifest.csv, file, step, sha256, bytes, modified."""

from reluscope.stages.jobs import logged

with logged(snakemake.log[0]) as tell:
    from reluscope.stages.listing import list_files
    from reluscope.study import Study

    run = Study.from_config(snakemake.config).runs[snakemake.wildcards.run]
    list_files(run, snakemake.output[0], tell)
