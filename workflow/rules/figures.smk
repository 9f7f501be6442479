# Stage three, second half: draw.


rule figure:
    input:
        stores=lambda wildcards: figure_stores(wildcards.figure),
        sources=lambda wildcards: local(
            relative(drawing.source_files(study.figures[wildcards.figure].kind))
        ),
    output:
        png=report(
            paths.figure("{figure}", "png"),
            caption="../report/figure.rst",
            category=lambda wildcards: study.figures[
                wildcards.figure
            ].kind.capitalize(),
            labels={"figure": "{figure}"},
        ),
        pdf=paths.figure("{figure}", "pdf"),
    log:
        paths.log("figure", "{figure}"),
    localrule: True  # seconds: not worth a cluster's queue
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=figure_settings,
        caption=lambda wildcards: study.figures[wildcards.figure].caption,
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/figure.py"
