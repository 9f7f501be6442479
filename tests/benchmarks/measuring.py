"""How long measuring takes, against reading the counts: each measure alone, and those of a run as jobs of a workflow.

    python tests/benchmarks/measuring.py results/runs/resnet20-seed0

Reading is all keys and counts of the run, in the order and pieces in which a measure gets them. A pair reads and then
measures; the measures take turns. The jobs of all measures run --jobs at a time, in processes of their own, in turn
with the pass that they share in a workflow and without.

Prints Markdown tables; --results writes them, and all numbers as JSON, to a folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from reporting import processor, report, spread

from reluscope import open_counts, paths
from reluscope.stages.measuring import compute
from reluscope.stages.shared_pass import announce, measure_together
from reluscope.study import MeasureSpec

OPTIONS = {"occupancy": {"slots": 500_000}}

MEASURES = ("distinct_patterns", "entropy", "pattern_changes", "weighted_jaccard_to_initial", "occupancy")


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def read(shards: list[str]) -> None:
    store = open_counts(*shards)
    for layer in range(len(store.layer_names)):
        for counts in store.over_time(layer):
            _ = counts.keys, counts.counts


def measure(shards: list[str], spec: MeasureSpec) -> None:
    compute([spec], open_counts(*shards))


def job(shards: list[str], specs: dict[str, MeasureSpec], name: str, folder: str) -> None:
    os.chdir(folder)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    measure_together("run", name, specs, shards, paths.measure("run", name))


def run_jobs(shards: list[str], specs: dict[str, MeasureSpec], num_at_once: int, *, share: bool) -> float:
    """Seconds of all jobs, without starting the processes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(num_at_once, multiprocessing.get_context("spawn")) as pool,
    ):
        if share:
            announce(specs, Path(folder, paths.shared_pass("run")))
        warm = {name: MeasureSpec(spec.function, spec.options, spec.steps[:1]) for name, spec in specs.items()}
        list(pool.map(partial(measure, shards), warm.values()))  # imports, compiled code
        return seconds(lambda: list(pool.map(partial(job, shards, specs, folder=folder), specs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's results folder, which holds counts")
    parser.add_argument("--measures", nargs="+", default=MEASURES, help="default: five of the paper's")
    parser.add_argument("--pairs", type=int, default=5, help="repetitions (default 5)")
    parser.add_argument("--jobs", type=int, default=2, help="jobs that run at one time (default 2)")
    parser.add_argument("--results", type=Path, help="folder for measuring.md and measuring.json")
    arguments = parser.parse_args()
    shards = sorted(str(path.absolute()) for path in arguments.run.glob("counts/*.zarr"))
    store = open_counts(*shards)
    specs = {name: MeasureSpec(name, OPTIONS.get(name, {}), store.steps) for name in arguments.measures}

    reading: dict[str, list[float]] = {name: [] for name in specs}
    measuring: dict[str, list[float]] = {name: [] for name in specs}
    jobs: dict[str, list[float]] = {"shared": [], "alone": []}
    for spec in specs.values():
        measure(shards, spec)  # compiled code, and the files in memory
    for _ in range(arguments.pairs):
        for name, spec in specs.items():
            reading[name].append(seconds(lambda: read(shards)))
            measuring[name].append(seconds(partial(measure, shards, spec)))
    for pair in range(arguments.pairs):
        for kind in list(jobs) if pair % 2 else list(jobs)[::-1]:
            jobs[kind].append(run_jobs(shards, specs, arguments.jobs, share=kind == "shared"))

    rows = ["| measure | measuring / reading |", "|---|---|"]
    rows += [f"| `{name}` | {spread(np.divide(measuring[name], reading[name]))} |" for name in specs]
    rows += ["", f"| {len(specs)} jobs, {arguments.jobs} at a time | sharing a pass / each alone |", "|---|---|"]
    rows += [f"| all of the above | {spread(np.divide(jobs['shared'], jobs['alone']))} |"]
    num_bytes = sum(file.stat().st_size for shard in shards for file in Path(shard).rglob("*") if file.is_file())
    steps = ", ".join(map(str, store.steps.tolist()[:8])) + (", ..." if len(store.steps) > 8 else "")
    about = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "counts": f"{num_bytes / 1e6:,.0f} MB, {len(store.layer_names)} layers, {len(store.steps)} steps: {steps}",
        "pairs": arguments.pairs,
    }
    numbers = {"seconds": {"reading": reading, "measuring": measuring, "jobs": jobs}}
    report("measuring", about, ("numpy", "numba", "zarr", "pcodec"), "\n".join(rows), numbers, arguments.results)


if __name__ == "__main__":
    main()
