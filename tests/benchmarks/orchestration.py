"""What the workflow adds to training, counting, measuring and drawing, in time.

    python tests/benchmarks/orchestration.py

- dry run: `snakemake --dry-run` of the study from nothing, and once it is finished;
- workflow: the wall time of `snakemake` for the whole study, from nothing to its figure;
- bare: the wall time of the same stage functions, called in a plain loop by one warm process a core, without Snakemake;
- orchestration: workflow minus bare, over the checkpoints. All that a job costs beside its work is in it: Snakemake's
  scheduling, starting a process, importing torch, reading the images, the first call of everything.

The networks are stubs (ResNet-8 with two channels, 20 digits), so that there is little else; the rules and stages are
the real ones. Prints a Markdown table; --results writes it, and all numbers as JSON, to a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from reporting import processor, report, spread

from reluscope import paths
from reluscope.stages.counting import count_shard
from reluscope.stages.drawing import draw_figure
from reluscope.stages.measuring import measure_run
from reluscope.stages.training import train_run
from reluscope.study import Study

REPOSITORY = Path(__file__).parents[2]

IMAGES = 20

FIGURE = "stubs"

MEASURES = ["distinct_patterns", "relative_entropy", "weighted_jaccard_to_final"]


def config_of(runs: int, checkpoints: int) -> dict[str, Any]:
    """A study of so many runs, every step of which is dumped and counted."""
    steps = checkpoints - 1  # and step 0
    return {
        "study": "orchestration",
        "data": {"name": "digits", "images": IMAGES, "test_images": 10},
        "seeds": list(range(runs)),
        "counting": {"batch_size": IMAGES, "steps": {"every": 1}},
        "methods": {"stepwise": {"epochs": steps, "batch_size": IMAGES}},
        "runs": {"stub": {"network": {"name": "resnet8", "widths": [2, 2, 2]}}},
        "figures": {FIGURE: {"runs": ["stub"], "measures": MEASURES}},
    }


def snakemake(folder: Path, config: Path, cores: int, *arguments: str) -> float:
    """Seconds that a call of Snakemake took."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--workflow-profile", str(REPOSITORY / "profiles/default"), "--configfile", str(config)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--directory", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def make_run(config: dict[str, Any], name: str) -> None:
    """Everything that the jobs of one run make, in this process; what they say goes nowhere."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        _make_run(config, name)


def _make_run(config: dict[str, Any], name: str) -> None:
    study = Study.from_config(config)
    run = study.runs[name]
    train_run(run, paths.weights(name), study=study.name, threads=1)
    counted = [paths.counts(name, shard) for shard in run.shards]
    for shard, store in zip(run.shards, counted, strict=True):
        count_shard(run, shard, paths.weights(name), store, threads=1)
    for measure, spec in study.measures_of(name).items():
        measure_run({paths.measure(name, measure): spec}, counted)


def work(config: dict[str, Any], folder: Path, warm_up: Path, names: list[str], ready: Any, go: Any) -> None:
    """One worker: warms up with a short run elsewhere, then makes its share of the runs."""
    short = {**config, "methods": {"stepwise": {"epochs": 1, "batch_size": IMAGES}}}
    warm_up.mkdir()
    os.chdir(warm_up)
    make_run(short, names[0])
    os.chdir(folder)
    ready.release()
    go.wait()
    for name in names:
        make_run(config, name)


def bare(config: dict[str, Any], folder: Path, cores: int) -> float:
    """Seconds of the study's runs in `cores` warm processes, and of its figure in this one."""
    context = multiprocessing.get_context("spawn")
    study, ready, go = Study.from_config(config), context.Semaphore(0), context.Event()
    (folder / paths.FIGURES).mkdir(parents=True)
    shares = [share for worker in range(cores) if (share := list(study.runs)[worker::cores])]
    workers = [
        context.Process(target=work, args=(config, folder, folder / f"warm-up{i}", share, ready, go))
        for i, share in enumerate(shares)
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire(timeout=120)
    start = time.perf_counter()
    go.set()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise SystemExit("bare: a worker failed")
    with contextlib.chdir(folder):
        draw_figure(study, FIGURE, [paths.figure(FIGURE, extension) for extension in ("png", "pdf")])
    return time.perf_counter() - start


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="default 100")
    parser.add_argument("--checkpoints", type=int, default=100, help="of each run, 2 or more; default 100")
    parser.add_argument("--cores", type=int, default=2, help="default 2")
    parser.add_argument("--repeats", type=int, default=5, help="of the dry runs; default 5")
    parser.add_argument("--results", type=Path, help="folder for orchestration.json and orchestration.md")
    return parser.parse_args()


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """All numbers, in seconds."""
    study = config_of(settings.runs, settings.checkpoints)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "study.yaml"
        config.write_text(yaml.safe_dump(study))
        flow = folder / "workflow"
        flow.mkdir()

        def dry_runs() -> list[float]:
            return [snakemake(flow, config, settings.cores, "--dry-run") for _ in range(settings.repeats)]

        before = dry_runs()
        times = {"bare": bare(study, folder / "bare", settings.cores)}
        times["workflow"] = snakemake(flow, config, settings.cores)
        return {"dry run, from nothing": before, "dry run, finished": dry_runs(), **times}


def main() -> None:
    settings = parse_arguments()
    numbers = measure(settings)
    checkpoints = settings.runs * settings.checkpoints
    numbers["orchestration, ms a checkpoint"] = (numbers["workflow"] - numbers["bare"]) / checkpoints * 1000

    about = {
        "machine": f"{processor()}, {settings.cores} jobs at a time",
        "study": f"{checkpoints:,} checkpoints over {settings.runs} runs of a stub network",
        "repeats": f"{settings.repeats} of the dry runs, one of the rest",
    }
    rows = [
        f"| {name} | {spread(value, 1) if isinstance(value, list) else f'{value:.1f}'} |"
        for name, value in numbers.items()
    ]
    unit = "Seconds where nothing else is said; of repetitions, median (least to largest)."
    table = "\n".join([unit, "", "| | |", "|---|---|", *rows])
    report("orchestration", about, ("snakemake", "torch", "zarr"), table, {"results": numbers}, settings.results)


if __name__ == "__main__":
    main()
