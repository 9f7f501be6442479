"""What counting costs: `count_patterns` against the bare forward pass, and against Algorithm 1 of the paper.

    python tests/benchmarks/counting.py

Every repetition times all contestants one after the other in this one process and compares within the repetition, so
that a machine that slows down slows all of them:

- bare forward: the same network, images and batches, batch-norm in training mode, nothing counted;
- packing: bare forward, and the key of every position (on a GPU up to 16 channels their counts too);
- whole: `count_patterns`;
- labelled: the same with ten labels; shuffled: with the same labels shuffled as well;
- hash_list: Hartmann et al. (2021), Algorithm 1, as published: a pattern's number by multiply-and-sum, for each batch a
  fresh list, index_add_, the list added to the total. Its lists share the paper's 3e8 slots; it runs over fewer images,
  and times an image are compared.

On the CPU all of them run with freed memory kept (`reluscope.heap`): without, the bare forward pass takes up
to half as long again, at random. Images are CIFAR-10's from the folder RELUSCOPE_CIFAR10_FOLDER (train/<class>/*) or,
where it is unset, random. Prints a Markdown table; --results writes it, and all times as JSON, to a folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import processor, report, spread
from torch import Tensor, nn
from tqdm import tqdm

from reluscope import build_network, count_patterns
from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.counting.count import forward_passes
from reluscope.counting.engines import Counter, counter_type
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.data import DataSpec, load
from reluscope.heap import freed_memory_kept
from reluscope.preactivations import Site, counting_mode, watched

PAPER_SLOTS = 300_000_000
"""Slots of all layers' lists together in Figures 1 and 3 of the paper."""

HASH_LIST_BATCHES = 3
"""Enough for a time an image: each batch costs the same."""


def bare_forward(network: nn.Module, images: Tensor, size: int) -> None:
    """The least that any counting must do: the same forward passes."""
    with counting_mode(network):
        for batch in images.split(size):
            network(batch)


def packing(network: nn.Module, images: Tensor, size: int, at_once: int) -> None:
    """The forward passes of `count_patterns`, and its keys, which nobody sorts."""
    counters: list[Counter] = []
    passes = forward_passes(len(images), size, at_once)
    buffers = KeyBuffers(num_batches=len(passes) + 1, limit=1 << 40)  # one more, so that the last is never sorted

    def visit(site: Site, preactivation: Tensor) -> None:
        if site.index == len(counters):
            counter = counter_type("auto", preactivation.device)
            counters.append(counter(preactivation.shape[1], preactivation.device, buffers))
        counters[site.index].add(preactivation)

    with counting_mode(network), watched(network) as watcher:
        for start, stop, num_batches in passes:
            with batch_norm_in_groups(num_batches), watcher.forward_pass(visit):
                network(images[start:stop])
            buffers.end_batch()


def hash_list(network: nn.Module, images: Tensor, size: int, slots: int) -> list[Tensor]:
    """Algorithm 1 in each layer and batch; int32 counts by layer, shape [slots]."""
    totals: list[Tensor] = []

    def visit(site: Site, preactivation: Tensor) -> None:
        powers = 2 ** torch.arange(preactivation.shape[1], device=preactivation.device)
        patterns = ((preactivation > 0).movedim(1, -1).long() * powers).sum(-1).flatten()
        counts = torch.zeros(slots, dtype=torch.int32, device=preactivation.device)
        counts.index_add_(0, patterns % slots, torch.ones_like(patterns, dtype=torch.int32))
        if site.index == len(totals):
            totals.append(counts)
        else:
            totals[site.index] += counts

    with counting_mode(network), watched(network) as watcher:
        for batch in images.split(size):
            with watcher.forward_pass(visit):
                network(batch)
    return totals


def seconds(task: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call, the device's queue included."""
    start = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_memory(task: Callable[[], object], device: torch.device) -> float:
    """Most memory during a call, GB: of its tensors on a GPU; of the process on Linux; NaN elsewhere."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        task()
        return torch.cuda.max_memory_allocated(device) / 1e9
    if platform.system() != "Linux":
        return float("nan")
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets VmHWM back
    task()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e9


def benchmark(name: str, images: Tensor, settings: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each contestant in each repetition, after one round that warms up and compiles."""
    device, size, at_once = images.device, settings.batch_size, settings.batches_at_once
    torch.manual_seed(0)
    network = build_network(name, in_channels=3, num_classes=10)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    few = images[: size * HASH_LIST_BATCHES]
    layers = len(count_patterns(network, few, size))
    labels = torch.arange(len(images)) % 10
    whole = partial(count_patterns, network, images, size, batches_at_once=at_once)
    tasks: dict[str, Callable[[], object]] = {
        "bare forward": partial(bare_forward, network, images, size),
        "packing": partial(packing, network, images, size, at_once),
        "whole": whole,
        "labelled": partial(whole, labels=labels),
        "shuffled": partial(whole, labels=labels, shuffled_labels=True),
        "hash_list": partial(hash_list, network, few, size, PAPER_SLOTS // layers),
    }
    times: dict[str, list[float]] = {task: [] for task in tasks}
    peak = peak_memory(tasks["whole"], device)
    for repetition in tqdm(range(settings.repeats + 1), desc=name, disable=None):
        for task, run in tasks.items():
            elapsed = seconds(run, device)
            if repetition > 0:
                times[task].append(elapsed * (len(images) / len(few) if task == "hash_list" else 1))
    return {"seconds": times, "peak_gb": peak}


def as_table(results: dict[str, dict[str, Any]]) -> str:
    header = ["network", "bare forward, s", "packing / bare", "whole / bare", "labelled / whole", "shuffled / whole"]
    header += ["hash_list / whole", "peak memory"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, result in results.items():
        bare, packed, whole, *others = (np.array(values) for values in result["seconds"].values())
        ratios = (spread(ratio) for ratio in (packed / bare, whole / bare, *(other / whole for other in others)))
        lines.append(f"| {name} | {spread(bare)} | {' | '.join(ratios)} | {result['peak_gb']:.1f} GB |")
    return "\n".join(lines)


def machine(device: torch.device) -> str:
    """The processor's name as far as the system tells it, and torch's threads; or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def read_images(count: int) -> tuple[str, Tensor]:
    """What the images are, and float32 [count, 3, 32, 32], channels_last."""
    if folder := os.environ.get("RELUSCOPE_CIFAR10_FOLDER"):
        spec = DataSpec.from_config({"name": "imagefolder", "path": folder, "images": count})
        return "CIFAR-10", load(spec).train[:count]
    random = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return "random", random.contiguous(memory_format=torch.channels_last)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks = ["resnet20", "convnet20", "toynet20"]
    parser.add_argument("--networks", nargs="+", default=networks, help=f"default: {' '.join(networks)}")
    parser.add_argument("--images", type=int, default=5120, help="default 5120")
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    parser.add_argument("--batches-at-once", type=int, help="default 1 on the CPU, 16 on a GPU")
    parser.add_argument("--repeats", type=int, default=7, help="default 7")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU; default all")
    parser.add_argument("--results", type=Path, help="folder for counting-<device>.json and .md")
    return parser.parse_args()


def main() -> None:
    settings = parse_arguments()
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    settings.batches_at_once = settings.batches_at_once or (16 if device.type == "cuda" else 1)
    kind, images = read_images(settings.images)
    images = images.to(device)
    with freed_memory_kept():
        results = {name: benchmark(name, images, settings) for name in settings.networks}

    about = {
        "machine": machine(device),
        "images": f"{len(images):,} of {kind}, 3 x 32 x 32, batches of {settings.batch_size}",
        "repeats": settings.repeats,
    }
    table = f"Median (least to largest); ratios within each repetition.\n\n{as_table(results)}"
    name, packages = f"counting-{device.type}", ("torch", "numpy", "numba")
    report(name, about, packages, table, {"results": results}, settings.results)


if __name__ == "__main__":
    main()
