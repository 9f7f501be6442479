"""Print what the study will cost: trainings, checkpoints, disk by stage, hours on a measured machine, by figure."""

from pathlib import Path

from reluscope.stages.planning import plan
from reluscope.study import Study

printed = plan(Study.from_config(snakemake.config), snakemake.config.get("machine"))
print(printed)
Path(snakemake.log[0]).write_text(printed + "\n")
