"""Each kernel's time, the bytes that it must move, and its share of the memory's bandwidth; what engines hang on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gpu_parts import Answer, Settings
from reluscope.counting import device as device_engine
from reluscope.counting import hash_kernels, triton_kernels

REPEATS = 7


def run(settings: Settings, answer: Answer) -> None:
    scale = 1000 if settings.smallest else 1
    bandwidth = copies(settings, answer, scale)
    packing(settings, answer, bandwidth, scale)
    keys(settings, answer, scale)


def milliseconds(task: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median, after two that warm up."""
    times = []
    for _ in range(repeats + 2 if device.type == "cuda" else 3):
        if device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            task()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        else:
            began = time.perf_counter()
            task()
            times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times[2:]))


def copies(settings: Settings, answer: Answer, scale: int) -> float:
    """Bytes per second of a copy, read and written."""
    source = torch.randn((1 << 30) // scale, device=settings.device)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() * 4 / milliseconds(lambda: target.copy_(source), settings.device) * 1e3
    answer.numbers["bandwidth"] = bandwidth
    answer.say(f"A copy reads and writes {bandwidth / 1e12:.2f} TB/s.\n")
    return bandwidth


def packing(settings: Settings, answer: Answer, bandwidth: float, scale: int) -> None:
    """Pre-activations of 2,048 images to keys, and up to 16 channels to counts; by tile, warps and rounds."""
    answer.say("| kernel | channels, size | layout | tile | warps | hot rounds | ms | GB | share of bandwidth |")
    answer.say("|---" * 9 + "|")
    num_images = max(2048 // scale, 2)
    chosen = triton_kernels._TILES
    for num_channels, size in ((16, 32), (32, 32), (32, 16), (64, 8), (128, 8))[:: 4 if settings.smallest else 1]:
        for layout in ("channels_last", "contiguous"):
            values = realistic((num_images, num_channels, size, size), settings.device)
            if layout == "channels_last":
                values = values.contiguous(memory_format=torch.channels_last)
            for tile, warps in ((2048, 4), (4096, 4), (4096, 8), (8192, 8))[: 1 if settings.smallest else None]:
                triton_kernels._TILES = {64: (tile, warps)}
                for name, rounds, taken, written in timed_kernels(values):
                    moved = values.numel() * 4 + written
                    share = moved / taken * 1e3 / bandwidth
                    answer.say(f"| {name} | {num_channels}, {size} x {size} | {layout} | {tile} | {warps} | {rounds} | "
                               f"{taken:.3f} | {moved / 1e9:.2f} | {share:.0%} |")  # fmt: skip
                    answer.numbers[f"{name} {num_channels} {size} {layout} {tile} {warps} {rounds}"] = taken
    triton_kernels._TILES = chosen


def timed_kernels(values: Tensor) -> Iterator[tuple[str, int, float, int]]:
    """Each kernel that may take these pre-activations: name, hot rounds, milliseconds, bytes written."""
    num_channels, device = values.shape[1], values.device
    words = device_engine.device_words(num_channels, device)
    dtype = torch.int32 if num_channels <= 32 else torch.int64
    keys = torch.empty(values.numel() // num_channels, device=device, dtype=dtype)
    pack = partial(triton_kernels._launch, triton_kernels._pack_kernel, values, words, keys)
    yield "pack", 0, milliseconds(pack, device), keys.numel() * keys.itemsize
    if num_channels <= 16:
        tables = torch.zeros(16, 1 << 16, dtype=torch.int64, device=device)
        for rounds in (0, 1, 2, 4):
            tally = partial(triton_kernels._launch, triton_kernels._tally_kernel, values, words, tables, rounds)
            yield "tally", rounds, milliseconds(tally, device), 0


def realistic(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A quarter of the positions with no active channel, as trained layers have; else random."""
    values = torch.randn(shape, device=device)
    quiet = torch.rand(shape[0], 1, *shape[2:], device=device) < 0.25
    return torch.where(quiet, -1.0, values)


def keys(settings: Settings, answer: Answer, scale: int) -> None:
    """100 million keys: sorted and counted, or hashed, by how often each occurs."""
    answer.say("\n| keys | distinct | hottest | sort and count, ms | hash table, ms | billion keys per second |")
    answer.say("|---" * 6 + "|")
    total = 1000 if settings.smallest else 100_000_000
    for dtype in (torch.int32, torch.int64):
        for repeats, hot in ((1, 0.0), (3, 0.0), (10, 0.0), (100, 0.0), (1000, 0.0), (10, 0.25), (1000, 0.25)):
            if settings.smallest and repeats != 10:
                continue
            some = made_keys(total, max(total // repeats, 1), hot, dtype, settings.device)
            few = 3
            by_sort = milliseconds(lambda some=some: device_engine._count(some.clone()), settings.device, few)
            clone = milliseconds(lambda some=some: some.clone(), settings.device, few)

            def by_table(some: Tensor = some) -> None:
                table = hash_kernels.HashTable(settings.device)
                for part in some.split(2_000_000):
                    table.add(part)
                table.take()

            hashed = milliseconds(by_table, settings.device, few)
            distinct = len(device_engine._count(some)[0])
            by_sort -= clone
            rates = f"{total / by_sort / 1e6:.1f} and {total / hashed / 1e6:.1f}"
            cells = [f"{total:,} of {some.itemsize * 8} bits", f"{distinct:,}", f"{hot:.0%}", f"{by_sort:.1f}"]
            answer.say(f"| {' | '.join(cells)} | {hashed:.1f} | {rates} |")
            answer.numbers[f"keys {some.itemsize * 8} {repeats} {hot}"] = [by_sort, hashed]
            if settings.seconds_left < 10:
                return answer.say("\nout of time")
    return None


def made_keys(total: int, distinct: int, hot: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random keys, each as often as the others but for one that has the share `hot`."""
    generator = torch.Generator(device).manual_seed(0)
    if distinct < total:
        index = torch.randint(distinct, (total,), generator=generator, device=device)
    else:
        index = torch.randperm(total, generator=generator, device=device)
    index *= -7046029254386353131  # one to one, and spread over all bits
    if dtype == torch.int32:
        index = index >> 32
    index[torch.rand(total, generator=generator, device=device) < hot] = 0
    return index.to(dtype)
