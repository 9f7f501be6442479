# Before a run of files is counted: which file is which step, and what its bytes are.


rule manifest:
    input:
        lambda wildcards: [f.file for f in study.runs[wildcards.run].spec.files],
    output:
        # kept while it is made again, so that only new and changed files are read
        update(paths.manifest("{run}")),
    log:
        paths.log("manifest", "{run}"),
    localrule: True  # reads what was added since
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        steps=lambda wildcards: [f.step for f in study.runs[wildcards.run].spec.files],
    message:
        "Listing the checkpoints of {wildcards.run}"
    script:
        "../scripts/manifest.py"
