# Stage three, at the end: the paper's claims, one line each.


rule scorecard:
    input:
        weights=[paths.weights(run.name) for run in study.trained_runs],
        counts=[counts_of(run.name)[0] for run in study.trained_runs],
        measures=claimed_stores,
        sources=local(relative(closure(module_files("reluscope.scorecard")[0]))),
    output:
        markdown=paths.scorecard("md"),
        table=report(
            paths.scorecard("csv"),
            caption="../report/scorecard.rst",
            category="Scorecard",
            labels={"table": "claims of the paper"},
        ),
    log:
        paths.log("scorecard", "scorecard"),
    localrule: True  # seconds: not worth a cluster's queue
    conda:
        "../../envs/reluscope.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    message:
        "Holding the paper's claims against the study"
    script:
        "../scripts/scorecard.py"
