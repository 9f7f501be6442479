"""What counting costs: `count_patterns` against the bare forward pass, and against Algorithm 1 of the paper.

Every repetition times all contestants one after the other in this one process and compares within the repetition, so
that a machine that slows down slows all of them. Prints a Markdown table:

    python tests/benchmarks/counting.py --network resnet20 --images 1024 --repeats 5 --json counting.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numba
import numpy as np
import torch
from torch import Tensor, nn

from reluscope import build_network, count_patterns
from reluscope.preactivations import counting_mode, observe


def bare_forward(network: nn.Module, images: Tensor, batch_size: int) -> None:
    """The least that any counting must do: the same forward passes."""
    with counting_mode(network):
        for batch in images.split(batch_size):
            network(batch)


def algorithm_1(network: nn.Module, images: Tensor, batch_size: int, slots: int) -> list[Tensor]:
    """Hartmann et al. (2021), Algorithm 1: a fresh int32 list a layer, pattern by multiply-and-sum, index_add_."""
    lists: list[Tensor] = []

    def visit(index: int, name: str, preactivation: Tensor) -> None:
        if index == len(lists):
            lists.append(torch.zeros(slots, dtype=torch.int32, device=preactivation.device))
        powers = 2 ** torch.arange(preactivation.shape[1], device=preactivation.device)
        bits = (preactivation > 0).movedim(1, -1).long()
        keys = ((bits * powers).sum(-1) % slots).flatten()
        lists[index].index_add_(0, keys, torch.ones_like(keys, dtype=torch.int32))

    with counting_mode(network):
        for batch in images.split(batch_size):
            with observe(network, visit):
                network(batch)
    return lists


def seconds(task: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call, the device's queue included."""
    start = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(tasks: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each task in each repetition, after one round that warms up and compiles."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for repetition in range(repeats + 1):
        for name, task in tasks.items():
            elapsed = seconds(task, device)
            if repetition > 0:
                times[name].append(elapsed)
    return times


def quartiles(values: list[float]) -> str:
    """Median, and the range of the middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def as_table(times: dict[str, list[float]]) -> str:
    bare, published = times["bare forward"], times["Algorithm 1"]
    lines = ["| contestant | seconds | ratio to bare forward | ratio to Algorithm 1 |", "|---|---|---|---|"]
    for name, values in times.items():
        to_bare = [value / base for value, base in zip(values, bare, strict=True)]
        to_published = [value / base for value, base in zip(values, published, strict=True)]
        lines.append(f"| {name} | {quartiles(values)} | {quartiles(to_bare)} | {quartiles(to_published)} |")
    return "\n".join(lines)


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20", help="a name that build_network knows")
    parser.add_argument("--images", type=int, default=1024, help="how many random 3 x 32 x 32 images (default 1024)")
    parser.add_argument("--file", type=Path, help="float images [n, 3, height, width] from this .npy file instead")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["auto"])
    parser.add_argument("--slots", type=int, default=1 << 22, help="of Algorithm 1, a layer (default 4194304)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--json", type=Path, help="write times and settings to this file")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, size = torch.device(arguments.device), arguments.batch_size
    images = torch.from_numpy(np.load(arguments.file)) if arguments.file else torch.randn(arguments.images, 3, 32, 32)
    images = images.float().to(device, memory_format=torch.channels_last)
    network = build_network(arguments.network, in_channels=3, num_classes=10)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    tasks: dict[str, Callable[[], object]] = {
        "bare forward": partial(bare_forward, network, images, size),
        "Algorithm 1": partial(algorithm_1, network, images, size, arguments.slots),
    }
    for engine in arguments.engines:
        tasks[f"count_patterns, {engine}"] = partial(count_patterns, network, images, size, engine=engine)
    times = measure(tasks, arguments.repeats, device)

    settings = {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": arguments.threads,
        "network": arguments.network,
        "images": f"{'x'.join(map(str, images.shape))}, {arguments.file.name if arguments.file else 'random'}",
        "batch_size": size,
        "slots": arguments.slots,
        "repeats": arguments.repeats,
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"numba {numba.__version__}",
    }
    print("\n".join(f"- {name}: {value}" for name, value in settings.items()))
    print("\nMedian (middle half) over the repetitions; ratios are taken within each.\n")
    print(as_table(times))
    if arguments.json:
        medians = {name: statistics.median(values) for name, values in times.items()}
        arguments.json.write_text(json.dumps({"settings": settings, "seconds": times, "medians": medians}, indent=2))


if __name__ == "__main__":
    main()
