# Before anything runs: what the study will cost. `snakemake plan` prints it.


rule plan:
    log:
        paths.log("plan", "plan"),
    localrule: True
    conda:
        "../../envs/reluscope.yaml"
    message:
        "What the study will cost"
    script:
        "../scripts/plan.py"
