"""What dumping every step costs, in time and on the disk.

    python tests/benchmarks/weights.py

- overhead: a training with every step dumped against the same training that dumps its first and last step, paired: one
  after the other in this process, in alternating order, from the first step to the finished store;
- stored / raw: bytes of the parameters' chunks over float32's, in a block of 128 steps at each of two learning rates;
- write: raw bytes a second that one block takes to be compressed and written, with nothing else running;
- load: opening the run and loading one step at random, of the trained run and of one with 78,200 steps (whose blocks
  are alike, so that it fits here);
- resume: from a killed training's folder to its network and optimizer state.

CIFAR-10's images come from the folder RELUSCOPE_CIFAR10_FOLDER (train/<class>/*); where it is unset, only digits are
measured. Prints a Markdown table; --results writes it, and all numbers as JSON, to a folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import processor, report, spread
from tqdm import tqdm

from reluscope import build_network, open_weights, stores
from reluscope.checkpoints import WeightsWriter
from reluscope.checkpoints.layout import KINDS
from reluscope.checkpoints.writer import BLOCK_STEPS
from reluscope.data import DataSpec
from reluscope.schedule import Steps
from reluscope.training.loop import train
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

PAPER_STEPS = 78_200

STEPS = {"digits": 5 * BLOCK_STEPS - 4, "CIFAR-10": 2 * BLOCK_STEPS - 16}
"""Of each training of a pair. With step 0 they nearly fill whole blocks, as all but the last of a long run's are."""


def data_specs() -> dict[str, DataSpec]:
    """What is trained on: 512 images of each, so that an epoch is four steps and rarely evaluated."""
    specs = {"digits": DataSpec.from_config({"name": "digits", "images": 512})}
    if folder := os.environ.get("RELUSCOPE_CIFAR10_FOLDER"):
        config = {"name": "imagefolder", "path": folder, "images": 5120, "test_images": 10}
        specs["CIFAR-10"] = DataSpec.from_config(config)
    else:
        print("CIFAR-10: skipped, because RELUSCOPE_CIFAR10_FOLDER names no folder of its images")
    return specs


def spec_of(data: DataSpec, num_steps: int, learning_rate: float, every: int) -> TrainingSpec:
    """ResNet-20 for at least so many steps in whole epochs, at one learning rate."""
    numbers = {"batch_size": 128, "learning_rate": learning_rate, "milestones": []}
    one_epoch = TrainingSpec({"name": "resnet20"}, data, method_from_config("stepwise", {**numbers, "epochs": 1}), 0, 1)
    epochs = -(-num_steps // one_epoch.timeline().steps_per_epoch)
    method = method_from_config("stepwise", {**numbers, "epochs": epochs})
    return TrainingSpec({"name": "resnet20"}, data, method, 0, every)


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def overhead(data: DataSpec, folder: Path, settings: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """Seconds of each pair of trainings, after one that warms up."""
    pairs = []
    for repetition in tqdm(range(settings.repeats + 1), desc=f"{name}: overhead", disable=None):
        times = {}
        for every in (1, 1 << 30) if repetition % 2 else (1 << 30, 1):
            shutil.rmtree(folder, ignore_errors=True)
            spec = spec_of(data, STEPS[name], 0.1, every)
            kind = "dumped" if every == 1 else "bare"
            times[kind] = seconds(lambda spec=spec: train(spec, folder / "partial", folder / "weights.zarr"))
            times["steps"] = spec.timeline().num_steps
        if repetition:
            pairs.append(times)
    return pairs


def stored_over_raw(data: DataSpec, folder: Path, learning_rate: float) -> float:
    """Of the second block of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    train(spec_of(data, 2 * BLOCK_STEPS, learning_rate, 1), folder / "partial", folder / "weights.zarr")
    stored = sum(file.stat().st_size for file in (folder / "weights.zarr" / "parameters" / "c").glob("*/1"))
    return stored / (open_weights(folder / "weights.zarr").layout.size("parameters") * BLOCK_STEPS * 4)


def writer_in(folder: Path, network: torch.nn.Module, steps: Steps) -> WeightsWriter:
    return WeightsWriter(folder / "partial", folder / "weights.zarr", network, steps, steps / 391, steps[:0], {})


def write_rate(folder: Path, trained: Path) -> float:
    """Raw MB a second of one real block."""
    store = open_weights(trained)
    network = build_network("resnet20", in_channels=3 if "CIFAR" in trained.parent.name else 1)
    shutil.rmtree(folder, ignore_errors=True)
    writer = writer_in(folder, network, store.steps[:BLOCK_STEPS])
    taken = 0.0
    for step in store.steps[:BLOCK_STEPS].tolist():
        store.load_into(network, step)
        taken += seconds(lambda: writer.append({}, {}))
    taken += seconds(lambda: writer.finish({}))
    size = sum(store.layout.size(kind) * width for kind, width in (("parameters", 4), ("buffers", 4)))
    return size * BLOCK_STEPS / 1e6 / taken


def load_times(path: Path, repeats: int) -> list[float]:
    steps = open_weights(path).steps
    network = build_network("resnet20", in_channels=3 if "CIFAR" in path.parent.name else 1)
    chosen = np.random.default_rng(0).choice(steps, repeats).tolist()
    return [seconds(lambda step=step: open_weights(path).load_into(network, step)) for step in chosen]


def long_run(folder: Path, trained: Path) -> Path:
    """A store of the paper's length whose blocks are all the trained run's first one."""
    partial = folder / "partial" / "weights.zarr"
    writer_in(folder, build_network("resnet20", in_channels=1), np.arange(PAPER_STEPS, dtype=np.int64))
    for kind in KINDS:
        for chunk in (trained / kind / "c").glob("*/0"):
            (partial / kind / "c" / chunk.parent.name).mkdir(parents=True)
            for block in range(-(-PAPER_STEPS // BLOCK_STEPS)):
                os.link(chunk, partial / kind / "c" / chunk.parent.name / str(block))
    stores.finish(partial, folder / "weights.zarr", stores.reopen_group(partial))
    return folder / "weights.zarr"


def resume_time(folder: Path) -> float:
    """A training killed after two blocks."""
    network = build_network("resnet20", in_channels=3)
    steps = np.arange(3 * BLOCK_STEPS, dtype=np.int64)
    writer = writer_in(folder, network, steps)
    momenta = {str(i): parameter.detach().clone() for i, parameter in enumerate(network.parameters())}
    for _ in range(2 * BLOCK_STEPS):
        writer.append({}, momenta)
    writer.close()
    return seconds(lambda: writer_in(folder, network, steps).restore(network))


def benchmark(name: str, data: DataSpec, folder: Path, settings: argparse.Namespace) -> dict[str, Any]:
    here = folder / name
    result: dict[str, Any] = {"pairs": overhead(data, here / "overhead", settings, name)}
    result["stored / raw"] = {
        str(rate): stored_over_raw(data, folder / f"{name}-{rate}", rate) for rate in (0.1, 0.001)
    }
    trained = folder / f"{name}-0.1" / "weights.zarr"
    result["write, MB/s"] = [write_rate(here / "write", trained) for _ in range(settings.repeats)]
    result["load, s"] = load_times(trained, 4 * settings.repeats)
    return result


def as_table(results: dict[str, dict[str, Any]]) -> str:
    header = [
        "images",
        "a step, ms",
        "dumped / not dumped",
        "stored / raw at 0.1",
        "at 0.001",
        "write, MB/s",
        "load, s",
    ]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, result in results.items():
        pairs, ratios = result["pairs"], result["stored / raw"]
        cells = [
            name,
            spread([pair["bare"] / pair["steps"] * 1000 for pair in pairs], 0),
            spread([pair["dumped"] / pair["bare"] for pair in pairs]),
            *(f"{ratio:.3f}" for ratio in ratios.values()),
            spread(result["write, MB/s"], 0),
            spread(result["load, s"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="default 5")
    parser.add_argument("--results", type=Path, help="folder for weights.json and weights.md")
    return parser.parse_args()


def main() -> None:
    settings = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {name: benchmark(name, data, folder, settings) for name, data in data_specs().items()}
        long = long_run(folder / "long", folder / "digits-0.1" / "weights.zarr")
        more = {
            f"load one step of {PAPER_STEPS:,}, s": load_times(long, 4 * settings.repeats),
            "resume, s": [resume_time(folder / f"resume{i}") for i in range(settings.repeats)],
        }

    about = {
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "training": f"ResNet-20, batches of 128, {STEPS['digits']} steps (digits) and {STEPS['CIFAR-10']} (CIFAR-10)",
        "repeats": settings.repeats,
    }
    body = ["Median (least to largest); ratios within each pair.", "", as_table(results), ""]
    body += [f"- {name}: {spread(values)}" for name, values in more.items()]
    packages = ("torch", "numpy", "zarr", "pcodec")
    report("weights", about, packages, "\n".join(body), {"results": results, **more}, settings.results)


if __name__ == "__main__":
    main()
