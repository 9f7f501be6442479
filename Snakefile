# reluscope: train networks, count their activation patterns at every checkpoint, measure and draw.
# One stage a file in workflow/rules; what a study contains stands in config.yaml.


include: "workflow/rules/storage.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/count.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/scorecard.smk"
include: "workflow/rules/plan.smk"


rule all:
    default_target: True
    input:
        figure_files,
        listed_measures,
        scorecard_files,
    message:
        "Everything is made"


rule weights:
    input:
        [paths.weights(run.name) for run in study.trained_runs],


rule counts:
    input:
        [shard for run in study.runs for shard in counts_of(run)],


rule measures:
    input:
        listed_measures,
