"""Counts stores of made-up patterns, for the tests of reading and of writing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reluscope.counts import CountsWriter
from reluscope.patterns import Counts, PatternCounts, key_dtype

LAYERS = [("a", 3, 4, 4), ("b", 32, 4, 4), ("c", 64, 2, 2), ("d", 100, 1, 1)]
IMAGES = 300


def counts_of(step: int) -> list[PatternCounts]:
    """Some counts of every layer: keys up to the very last, as many positions as there are."""
    random, made = np.random.default_rng(step), []
    for name, channels, height, width in LAYERS:
        top = 2 ** min(channels, 64) - 1
        drawn = random.integers(0, top, IMAGES * height * width, dtype=np.uint64, endpoint=True) >> np.uint64(
            random.integers(0, min(channels, 64))
        )
        drawn[0] = top
        keys, counts = np.unique(drawn, return_counts=True)
        num_nan = step % 7 * len(made)  # of some layers at some steps
        made.append(
            PatternCounts(name, keys.astype(key_dtype(channels)), counts, channels, height, width, num_nan=num_nan)
        )
    return made


def writer(folder: Path, steps: list[int], **attributes) -> CountsWriter:
    name = f"{steps[0]:08d}"
    final, partial, source = folder / f"{name}.zarr", folder / f"{name}.partial", folder / "weights"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "zarr.json").exists():
        (source / "zarr.json").touch()
    return CountsWriter(partial, final, {"run": "r", "steps": steps, **attributes}, source)


def sampled_counts_of(step: int) -> list[Counts]:
    return [counts.sampled(16) for counts in counts_of(step)]


def write(folder: Path, steps: list[int], counts_of=counts_of, **attributes) -> Path:
    store = writer(folder, steps, **attributes)
    for step in steps:
        store.append(step, step / 12, counts_of(step))
    store.finish()
    return folder / f"{steps[0]:08d}.zarr"


def assert_same(one: PatternCounts, other: PatternCounts) -> None:
    for name in ("layer_name", "num_channels", "height", "width", "num_nan"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.keys.dtype == other.keys.dtype
    assert one.counts.dtype == np.int64
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.counts, other.counts)
