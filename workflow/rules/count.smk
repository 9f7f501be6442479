# Stage two: count every pattern of every layer, one fixed range of steps a job.


rule count:
    input:
        weights=paths.weights("{run}"),
    output:
        directory(paths.counts("{run}", "{shard}")),
    params:
        settings=count_settings,
    log:
        paths.log("count", "{run}/{shard}"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=600,
    conda:
        "../../envs/reluscope.yaml"
    message:
        "Counting the patterns of {wildcards.run}, steps {wildcards.shard}"
    script:
        "../scripts/count.py"
