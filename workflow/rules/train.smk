# Stage one: train a run and dump its steps.


rule train:
    output:
        directory(paths.weights("{run}")),
    log:
        paths.log("train", "{run}"),
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        gpu=1,  # for clusters, and profiles/gpu; elsewhere it limits nothing
        mem_mb=4000,
        runtime=1440,
    params:
        spec=lambda wildcards: study.runs[wildcards.run].spec.to_dict(),
    message:
        "Training {wildcards.run}"
    script:
        "../scripts/train.py"
