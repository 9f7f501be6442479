# What all rules share: the study, checked before anything runs, and the names of its files.
import base64
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version, validate

from reluscope import figures as drawing
from reluscope import measures as measuring
from reluscope import paths
from reluscope.study import ConfigError, Study, check

min_version("9.6")

# A study given with --configfile stands for itself; only without one the default study is read.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


SCHEMA = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"


def retrained_by_snakemake(run):
    """Whether Snakemake remembers how this run was trained, and so retrains it by itself when its settings change."""
    record = base64.urlsafe_b64encode(paths.weights(run).encode()).decode()
    return (Path(".snakemake/metadata") / record).is_file()


try:
    check(config, yaml.safe_load(SCHEMA.read_text()))
    validate(config, str(SCHEMA))
    study = Study.from_config(config)
    study.check_results(
        recorded=[run for run in study.runs if retrained_by_snakemake(run)]
    )
except ConfigError as error:
    raise WorkflowError(str(error))


wildcard_constraints:
    run="[A-Za-z0-9][A-Za-z0-9_.-]*",
    shard="[0-9]+-[0-9]+",
    measure="[a-z][a-z0-9_]*",
    figure="[A-Za-z0-9][A-Za-z0-9_-]*",


def counts_of(run):
    """All counts stores of a run."""
    return [paths.counts(run, shard) for shard in study.runs[run].shards]


def figure_stores(figure):
    """Measure store of each (run, measure) of a figure."""
    spec = study.figures[figure]
    return {
        (run, measure): paths.measure(run, measure)
        for runs in spec.runs.values()
        for run in runs
        for measure in spec.measures
    }


def relative(sources):
    """Source files, relative to the working directory where they lie below it, as a clone's do."""
    here = Path.cwd()
    return [str(s.relative_to(here) if s.is_relative_to(here) else s) for s in sources]


def count_settings(wildcards):
    """All that determines a shard's counts, beside the weights."""
    run = study.runs[wildcards.run]
    return {
        "steps": list(run.shards[wildcards.shard]),
        "batch_size": run.batch_size,
        "data": run.spec.data.to_dict(),
    }


def figure_settings(wildcards):
    """All that determines a figure, beside the measures."""
    spec = study.figures[wildcards.figure]
    return {
        "kind": spec.kind,
        "runs": {title: list(runs) for title, runs in spec.runs.items()},
        "measures": list(spec.measures),
        "look": dict(spec.look),
    }


figure_files = [
    paths.figure(figure, extension)
    for figure in study.figures
    for extension in ("png", "pdf")
]
listed_measures = [
    paths.measure(run, measure)
    for run in study.runs
    for measure in study.measures_of(run)
]


onsuccess:
    for made in [
        *figure_files,
        f"{len(listed_measures)} measures in {paths.RESULTS}/runs/*/measures",
    ]:
        print("made", made)
