# Stage one: train a run and dump its steps.


rule train:
    output:
        directory(paths.weights("{run}")),
    params:
        spec=lambda wildcards: study.runs[wildcards.run].spec.to_dict(),
    log:
        paths.log("train", "{run}"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=600,
    conda:
        "../../envs/reluscope.yaml"
    message:
        "Training {wildcards.run}"
    script:
        "../scripts/train.py"
