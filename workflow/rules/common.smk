# What all rules share: the study, checked before anything runs, and the names of its files.
import base64
import functools
import os
import shutil
import sys
import time
from pathlib import Path

import yaml
from snakemake.cli import get_argument_parser
from snakemake.utils import min_version, validate

try:
    from reluscope import stores
except ValueError as error:  # Python runs without assertions
    raise SystemExit(f"{error}")

from reluscope import figures as drawing
from reluscope import measures as measuring
from reluscope import paths
from reluscope.checkpoint_files import findings, write_manifest
from reluscope.data.findings import findings as of_data
from reluscope.files import WriteError
from reluscope.schedule import shard_length_for
from reluscope.sources import closure, module_files
from reluscope.stages import progress
from reluscope.study import (
    Study,
    check,
    check_results,
    counting_settings,
    measuring_settings,
    require_memory,
    require_readable,
    resolve,
)

min_version("9.6")


report: "../report/workflow.rst"


# A study given with --configfile stands for itself; only without one the default study is read.
default_configfile = Path(workflow.basedir) / "config.yaml"
config_files = [Path(f) for f in workflow.overwrite_configfiles] or [default_configfile]


def stop(error):
    """One line that a person can act on, instead of Snakemake's four about this file."""
    named = ", ".join(map(str, workflow.overwrite_configfiles)) or "config.yaml"
    return SystemExit(f"{named}: {error}")


try:
    if workflow.is_main_process:
        for file in config_files:
            require_readable(file)
except ValueError as error:
    raise SystemExit(f"{error}")


if not workflow.overwrite_configfiles:

    configfile: str(default_configfile)


SCHEMA = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
STUDIES = Path(workflow.basedir) / "workflow/studies"


MANY_JOBS, FEWER_JOBS = (
    5_000,
    1_000,
)  # of so many a person is told how they may be fewer


def remembered(store):
    """Whether Snakemake remembers how a store was made, and so makes it again by itself when its settings change."""
    folder = Path(".snakemake/metadata")
    if not folder.is_dir():
        return False
    # as Snakemake does: in folders, where it is longer than a file's name may be
    length = (os.pathconf(folder, "PC_NAME_MAX") if os.name == "posix" else 0) or 255
    record = base64.urlsafe_b64encode(store.encode()).decode()
    parts = [record[i : i + length - 1] for i in range(0, len(record), length - 1)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1]).is_file()


def is_for_plan():
    """Whether the plan is all that this run of the workflow is to make."""
    if "plan" not in sys.argv:
        return False
    return set(get_argument_parser().parse_args().targets) == {"plan"}


try:
    config.update(resolve(config, STUDIES), extends=[])
    check(config, yaml.safe_load(SCHEMA.read_text()))
    validate(config, str(SCHEMA))
    # only the first process looks for files: a cluster's jobs take them as it found them
    study = Study.from_config(config, files_as_listed=not workflow.is_main_process)
    if workflow.is_main_process and workflow.local_exec:
        pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        require_memory(study.runs.values(), pages * page)
    runs_of_files = [run for run in study.runs.values() if not run.is_trained]
    if not is_for_plan():  # which reads no results, and may be of another study
        check_results(study, remembered, results_above)
    if workflow.is_main_process:
        for finding in dict.fromkeys(
            finding for run in study.runs.values() for finding in of_data(run.spec.data)
        ):
            print(finding, file=sys.stderr)
        for run in runs_of_files:
            if braces := [f.file for f in run.spec.files if set("{}") & set(f.file)]:
                raise ValueError(
                    f"runs.{run.name}: Snakemake takes the braces in {braces[0]} for a wildcard; rename it"
                )
            for finding in findings(run.spec.files):
                print(f"{run.name}: {finding}", file=sys.stderr)
            if (number := len(run.shards)) > MANY_JOBS:
                length = shard_length_for(run.steps, FEWER_JOBS)
                print(
                    f"{run.name}: counting is {number:,} jobs, which take Snakemake {number * 0.0015:.0f} s or more before "
                    f"the first; counting.shard_length: {length} makes {FEWER_JOBS:,} or fewer (and counts anew)",
                    file=sys.stderr,
                )
except (ValueError, SyntaxError) as error:
    raise stop(error)


wildcard_constraints:
    run="[A-Za-z0-9][A-Za-z0-9_.-]*",
    shard="[0-9]+-[0-9]+",
    measure=r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)?",
    figure="[A-Za-z0-9][A-Za-z0-9_-]*",


def checkpoints_of(wildcards):
    """What a counting job loads: the run's weights store, or its files of these steps."""
    run = study.runs[wildcards.run]
    if run.is_trained:
        return {"weights": paths.weights(run.name)}
    files = run.spec.files_at(run.shards[wildcards.shard])
    # a digest of each is among the rule's params, and tells better than its time whether it changed
    return {"files": local(ancient([f.file for f in files]))}


def counts_of(run):
    """All counts stores of a run."""
    return [paths.counts(run, shard) for shard in study.runs[run].shards]


def figure_stores(figure):
    """Measure stores that a figure shows."""
    spec = study.figures[figure]
    return [
        paths.measure(run, study.measure_store(run, measure, figure))
        for run in spec.steps
        for measure in spec.measures
    ]


measures_of = functools.cache(study.measures_of)  # thousands of jobs ask
known_measures = {}


def settings_of_measure(wildcards):
    """All that determines what a measure store holds, beside the counts."""
    measure = measures_of(wildcards.run)[wildcards.measure]
    return measuring_settings(measure, known_measures)


def relative(sources):
    """Source files, relative to the working directory where they lie below it, as a clone's do."""
    here = Path.cwd()
    return [str(s.relative_to(here) if s.is_relative_to(here) else s) for s in sources]


def figure_settings(wildcards):
    """All that determines a figure, beside the measures."""
    spec = study.figures[wildcards.figure]
    return {
        "kind": spec.kind,
        "runs": {study.runs[runs[0]].title: list(runs) for runs in spec.runs.values()},
        "steps": {run: steps.tolist() for run, steps in spec.steps.items()},
        "measures": list(spec.measures),
        "look": dict(spec.look),
    }


figure_files = [
    paths.figure(figure, extension)
    for figure in study.figures
    for extension in ("png", "pdf")
]
listed_measures = [
    paths.measure(run, measure) for run in study.runs for measure in measures_of(run)
]


claimed_stores = [
    paths.measure(name, measure)
    for name, run in study.runs.items()
    for measure in study.claimed_measures(run)
]
scorecard_files = (
    [paths.scorecard("md"), paths.scorecard("csv")] if study.scorecard else []
)


started = time.time()


def made_now(files):
    """Those of the files that this run made, as they are named to a person."""
    files = [Path(results_above, f) for f in files]
    return [f for f in files if f.exists() and f.stat().st_mtime >= started]


def jobs_to_do():
    """What this run of the workflow has to train, count and measure."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in progress.WORDS:
            size = 1
            if job.rule.name == "count":
                size = len(study.runs[job.wildcards.run].shards[job.wildcards.shard])
            yield progress.Job(job.rule.name, str(job.output[0]), size)


def measures_to_make():
    """The measures that this run of the workflow makes, by run."""
    to_make = {}
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "measure":
            to_make.setdefault(job.wildcards.run, []).append(job.wildcards.measure)
    return to_make


onstart:
    # not by a rule: one file more must not make the other files' counts look old
    from reluscope.stages.shared_pass import announce  # jobs do without

    shares_a_disk = workflow.storage_settings.assume_common_workdir
    if runs_of_files and not (workflow.local_exec or shares_a_disk):
        raise SystemExit(
            f"runs.{runs_of_files[0].name}: nodes that share no disk with this machine cannot read its checkpoint "
            "files; run the study here (--executor local), or leave such runs out"
        )
    try:
        for run in runs_of_files:
            write_manifest(run.spec.files, Path(paths.manifest(run.name)))
        if workflow.storage_settings.default_storage_provider is None:
            for run, names in measures_to_make().items():
                announce(names, Path(paths.shared_pass(run)))
            # behind a storage plugin, what is made is not seen here
            progress.report(jobs_to_do(), started)
    except WriteError as error:
        raise SystemExit(f"{error}")


onsuccess:
    for run in study.runs:
        shutil.rmtree(paths.shared_pass(run), ignore_errors=True)
    made = made_now(figure_files + scorecard_files)
    if number := len(made_now(listed_measures)):
        measured = Path(results_above, paths.RESULTS, "runs/*/measures")
        made.append(f"{number} measures in {measured}")
    where = f"in {Path.cwd()}: " if workflow.overwrite_workdir and made else ""
    for what in made:
        print(f"{where}made {what}")
