# Stage two: count every pattern of every layer, one fixed range of steps a job.


rule count:
    input:
        unpack(checkpoints_of),
    output:
        directory(paths.counts("{run}", "{shard}")),
    log:
        paths.log("count", "{run}/{shard}"),
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        gpu=1,  # for clusters, and profiles/gpu; elsewhere it limits nothing
        mem_mb=lambda wildcards: 5000 + study.runs[wildcards.run].buffer_mb,
        runtime=1440,
    params:
        settings=lambda wildcards: counting_settings(
            study.runs[wildcards.run], wildcards.shard
        ),
    message:
        "Counting the patterns of {wildcards.run}, steps {wildcards.shard}"
    script:
        "../scripts/count.py"
