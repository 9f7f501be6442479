"""Keys of more than 64 channels may collide: the bound is right, and collisions are seen, in a shrunken key space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reluscope import patterns
from reluscope.counting.engines import counter_type
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import PatternCounts, channel_words, expected_collisions

NUM_CHANNELS = 104
CPU = torch.device("cpu")


def random_patterns(num_patterns: int, seed: int) -> NDArray[np.bool_]:
    """Distinct patterns, active only beyond channel 64, where keys are not the bits.  [patterns, channels]"""
    bits = np.zeros((num_patterns, NUM_CHANNELS), bool)
    bits[:, 64:] = np.random.default_rng(seed).random((num_patterns, NUM_CHANNELS - 64)) < 0.5
    assert len(np.unique(bits, axis=0)) == num_patterns
    return bits


def shrink_keys(monkeypatch: pytest.MonkeyPatch, key_bits: int) -> None:
    """Words of so few bits that keys collide."""

    def few_bits(num_channels: int) -> NDArray[np.uint64]:
        return channel_words(num_channels) & np.uint64((1 << key_bits) - 1)

    for module in ("oracle", "packing", "device"):
        monkeypatch.setattr(f"reluscope.counting.{module}.channel_words", few_bits)


@pytest.mark.parametrize("engine", ["numpy", "numba", "torch", "triton"])
def test_collisions_are_counted_as_one_pattern_and_seen(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    if engine == "triton" and torch.cuda.is_available():
        pytest.skip("runs in Triton's interpreter, on a machine without a GPU")
    bits = random_patterns(100, seed=0)
    key_bits = 8
    words = channel_words(NUM_CHANNELS) & np.uint64((1 << key_bits) - 1)
    by_hand: dict[int, int] = {}
    for row in bits:
        key = 0
        for channel in np.flatnonzero(row):
            key ^= int(words[channel])
        by_hand[key] = by_hand.get(key, 0) + 1

    shrink_keys(monkeypatch, key_bits)
    buffers = KeyBuffers(1)
    counter = counter_type(engine, CPU)(NUM_CHANNELS, CPU, buffers)
    counter.add(torch.from_numpy(np.where(bits, 1.0, -1.0)).float())
    buffers.end_batch()
    keys, counts = counter.result()
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == by_hand
    assert len(keys) < len(bits)  # the recount of rows sees what the keys have lost
    assert counts.sum() == len(bits)


@pytest.mark.parametrize("key_bits", [10, 14])
def test_the_bound_is_what_is_found(key_bits: int) -> None:
    """Mean over 200 sets of patterns of the pairs that share a key, within four standard errors of the bound."""
    num_patterns, found = 150, []
    words = channel_words(NUM_CHANNELS) & np.uint64((1 << key_bits) - 1)
    for seed in range(200):
        bits = random_patterns(num_patterns, seed)
        keys = np.bitwise_xor.reduce(np.where(bits, words, np.uint64(0)), axis=1)
        _, counts = np.unique(keys, return_counts=True)
        found.append(int((counts * (counts - 1) // 2).sum()))
    expected = expected_collisions(num_patterns, NUM_CHANNELS, key_bits)
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_bound_at_the_scale_of_the_paper() -> None:
    """Below one collision in 10,000 checkpoints, if PyramidNet-20 showed a pattern of its own at every position."""
    widths_and_positions = [(72, 8 * 8), (81, 8 * 8), (91, 8 * 8), (100, 8 * 8), (100, 8 * 8)]
    bound = sum(expected_collisions(50_000 * positions, width) for width, positions in widths_and_positions)
    assert bound < 1e-4
    assert expected_collisions(12_800_000, 128) == pytest.approx(12_800_000**2 / 2**65, rel=1e-6)
    assert expected_collisions(10**9, 64) == 0


def test_counts_carry_their_bound() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    wide = PatternCounts("relu", keys, np.ones(1000, np.int64), num_channels=65)
    assert wide.expected_collisions == patterns.expected_collisions(1000, 65) > 0
    assert PatternCounts("relu", keys, np.ones(1000, np.int64), num_channels=64).expected_collisions == 0
