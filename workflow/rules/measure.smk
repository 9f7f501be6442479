# Stage three, first half: one measure of one run.


rule measure:
    input:
        shards=lambda wildcards: counts_of(wildcards.run),
    output:
        directory(paths.measure("{run}", "{measure}")),
    log:
        paths.log("measure", "{run}/{measure}"),
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        # with a digest of the measure's code and of what it uses: editing these reruns this measure, and nothing else
        settings=settings_of_measure,
    message:
        "Measuring {wildcards.measure} of {wildcards.run}"
    script:
        "../scripts/measure.py"
