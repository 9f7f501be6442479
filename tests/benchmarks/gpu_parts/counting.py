"""A checkpoint's count: bare forward pass, whole, by each engine, Algorithm 1; at step 0 and after an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from counting import HASH_LIST_BATCHES, PAPER_SLOTS, bare_forward, hash_list, packing, peak_memory
from reporting import spread
from torch import Tensor, nn

from gpu_parts import Answer, Settings
from reluscope import build_network, count_patterns
from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.counting.count import forward_passes
from reluscope.data.images import ImageSet
from reluscope.data.moving import network_format
from reluscope.preactivations import counting_mode

SIZE, AT_ONCE = 128, 16
TASKS = {
    "bare one": "bare, 1 batch at once",
    "bare": f"bare, {AT_ONCE} at once",
    "packing": "packing",
    "whole": "whole",
    "whole 64": "64 at once",
    "hash": "by hash table",
    "torch": "by torch",
    "Algorithm 1": "Algorithm 1",
}
"""What is timed, and the table's heading."""

NETWORKS = ("resnet20", "convnet20", "toynet20")


def run(settings: Settings, answer: Answer) -> None:
    images = settings.images()
    inputs = images[:].contiguous(memory_format=network_format(settings.device))
    answer.say(f"{len(images):,} images, batches of {SIZE}, {AT_ONCE} at once; seconds, median (least to largest)")
    answer.say("")
    header = ["network", "step", *TASKS.values(), "distinct patterns", "GPU memory, whole", "by hash table"]
    answer.say(f"| {' | '.join(header)} |")
    answer.say("|---" * len(header) + "|")
    for name in ("resnet8",) if settings.smallest else NETWORKS:
        torch.manual_seed(0)
        network = build_network(name, in_channels=3, num_classes=10)
        network = network.to(settings.device, memory_format=network_format(settings.device))  # type: ignore[call-overload]
        for step in (0, 2 if settings.smallest else 391):
            if step:
                train(network, images, step)
            row(name, step, network, inputs, settings, answer)
            if name == NETWORKS[0] and step:
                profiled(network, inputs, settings)
            if settings.seconds_left < 25:
                return answer.say("\nout of time")
    return None


def row(name: str, step: int, network: nn.Module, inputs: Tensor, settings: Settings, answer: Answer) -> None:
    at_once = 1 if settings.smallest else AT_ONCE
    whole = partial(count_patterns, network, inputs, SIZE, batches_at_once=at_once)
    counts = whole()
    few = inputs[: SIZE * (1 if settings.smallest else HASH_LIST_BATCHES)]
    slots = 10_000 if settings.smallest else PAPER_SLOTS // len(counts)
    tasks: dict[str, Callable[[], object]] = {
        "bare one": partial(bare_forward, network, inputs, SIZE),
        "bare": partial(bare_in_groups, network, inputs, at_once),
        "packing": partial(packing, network, inputs, SIZE, at_once),
        "whole": whole,
        "whole 64": partial(whole, batches_at_once=4 * at_once),
        "hash": partial(whole, engine="hash"),
        "torch": partial(whole, engine="torch"),
        "Algorithm 1": partial(as_published, network, few, slots),
    }
    if settings.smallest:
        tasks = {task: run for task, run in tasks.items() if task not in ("packing", "hash", "torch", "whole 64")}
    repeats = {"torch": 1, "Algorithm 1": 3} if not settings.smallest else dict.fromkeys(tasks, 1)
    times = {task: timed(run, settings.device, repeats.get(task, 3)) for task, run in tasks.items()}
    if "Algorithm 1" in times:
        times["Algorithm 1"] = [seconds * len(inputs) / len(few) for seconds in times["Algorithm 1"]]
    memory = {task: memory_of(tasks[task], settings.device) for task in ("whole", "hash") if task in tasks}
    answer.numbers[f"{name} at {step}"] = {"seconds": times, "memory, GB": memory,
                                           "distinct": [layer.num_distinct for layer in counts]}  # fmt: skip
    cells = [spread(times[task], 3) if task in times else "-" for task in TASKS]
    cells += [f"{sum(layer.num_distinct for layer in counts):,}"]
    cells += [f"{memory[task]:.1f} GB" if task in memory else "-" for task in ("whole", "hash")]
    answer.say(f"| {name} | {step} | {' | '.join(cells)} |")


def as_published(network: nn.Module, inputs: Tensor, slots: int) -> None:
    """Algorithm 1 with torch's ordinary index_add_: of integers, its order does not matter."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        hash_list(network, inputs, SIZE, slots)
    finally:
        torch.use_deterministic_algorithms(before)


def bare_in_groups(network: nn.Module, inputs: Tensor, at_once: int) -> None:
    """The forward passes of `count_patterns`, and nothing else."""
    with counting_mode(network):
        for start, stop, num_batches in forward_passes(len(inputs), SIZE, at_once):
            with batch_norm_in_groups(num_batches):
                network(inputs[start:stop])


def timed(task: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall-clock seconds of each repetition, the device's queue included, after one that warms up."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        task()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def memory_of(task: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return peak_memory(task, device)


def train(network: nn.Module, images: ImageSet, steps: int) -> None:
    """An epoch of plain SGD by the paper's numbers, without augmentation."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(images.images.device)
    network.train()
    assert images.labels is not None
    for index in order.split(SIZE)[:steps]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[index]), images.labels[index]).backward()
        optimizer.step()


def profiled(network: nn.Module, inputs: Tensor, settings: Settings) -> None:
    """Where the device's time goes in one whole count."""
    if settings.device.type != "cuda":
        return
    from torch.profiler import ProfilerActivity, profile

    whole = partial(count_patterns, network, inputs, SIZE, batches_at_once=AT_ONCE)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        whole()
        torch.cuda.synchronize()
    events = [event for event in profiler.key_averages() if event.device_type.name == "CUDA"]
    total = sum(event.self_device_time_total for event in events)
    lines = [
        f"Where the device's {total / 1e3:.0f} ms go in a whole count:",
        "",
        "| kernel | calls | ms |",
        "|---|---|---|",
    ]
    for event in sorted(events, key=lambda event: -event.self_device_time_total)[:20]:
        lines.append(f"| `{event.key[:90]}` | {event.count} | {event.self_device_time_total / 1e3:.2f} |")
    print("\n".join(lines), flush=True)
    if settings.results:
        settings.results.mkdir(parents=True, exist_ok=True)
        (settings.results / "gpu-kernels.md").write_text("\n".join(lines) + "\n")
