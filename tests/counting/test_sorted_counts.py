"""Sorted counts: the sums are right, memory follows the distinct keys, and merging stays linear in the keys."""

from collections import Counter as Tally

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reluscope.counting.sorted_counts import KeyBuffers, SortedCounts

Run = tuple[NDArray[np.int64], NDArray[np.int64]]


def count(keys: NDArray[np.int64]) -> Run:
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, counts.astype(np.int64)


@settings(deadline=None)
@given(
    st.integers(1, 30).flatmap(lambda n: st.lists(st.lists(st.integers(0, 40), min_size=n, max_size=n), min_size=1)),
    st.integers(1, 2000),
    st.sampled_from([1, 3]),
)
def test_sums_memory_and_work(batches: list[list[int]], limit: int, num_threads: int) -> None:
    """Two layers: the second sees only two different keys."""
    num_merged = [0, 0]
    largest_buffer = 0

    def new(num_keys: int) -> NDArray[np.int64]:
        nonlocal largest_buffer
        largest_buffer = max(largest_buffer, num_keys * 8)
        return np.full(num_keys, -1)

    def merging(layer: int):
        def merge(first: Run, second: Run, total: int) -> Run:
            num_merged[layer] += len(first[0]) + len(second[0])
            sums = Tally(dict(zip(*first, strict=True)))
            sums.update(dict(zip(*second, strict=True)))
            assert sums.total() == total
            keys = np.array(sorted(sums))
            return keys, np.array([sums[key] for key in keys])

        return merge

    buffers = KeyBuffers(len(batches), limit, num_threads)
    layers = [buffers.add(SortedCounts(new, count, merging(layer))) for layer in (0, 1)]
    seen = [Tally[int](), Tally[int]()]
    for batch in batches:
        for layer, keys in enumerate((batch, [key % 2 for key in batch])):
            layers[layer].room(len(keys))[:] = keys
            seen[layer].update(keys)
        buffers.end_batch()
        distinct = sum(len(tally) for tally in seen) * 8
        assert 2 * largest_buffer <= max(limit, distinct, 2 * len(batch) * 8)
    for layer, tally in zip(layers, seen, strict=True):
        keys, sums = layer.result()
        assert keys.tolist() == sorted(tally)
        assert dict(zip(keys.tolist(), sums.tolist(), strict=True)) == tally
    assert sum(num_merged) <= 4 * sum(tally.total() for tally in seen)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 2000), st.sampled_from([1, 3]))
def test_batches_of_any_size(sizes: list[int], limit: int, num_threads: int) -> None:
    """One layer has other numbers of keys in each batch, and a second one comes with the second batch."""
    largest_buffer = 0

    def new(num_keys: int) -> NDArray[np.int64]:
        nonlocal largest_buffer
        largest_buffer = max(largest_buffer, num_keys * 8)
        return np.full(num_keys, -1)

    def merge(first: Run, second: Run, total: int) -> Run:
        sums = Tally(dict(zip(*first, strict=True)))
        sums.update(dict(zip(*second, strict=True)))
        keys = np.array(sorted(sums), np.int64)
        return keys, np.array([sums[key] for key in keys.tolist()], np.int64)

    buffers = KeyBuffers(len(sizes), limit, num_threads)
    layers = [buffers.add(SortedCounts(new, count, merge))]
    for number, size in enumerate(sizes):
        if number == 1:
            layers.append(buffers.add(SortedCounts(new, count, merge)))
        for layer in layers:
            layer.room(size)[:] = np.arange(size) % 7 + number % 2
        buffers.end_batch()
        assert largest_buffer <= 1.5 * max(limit, 2 * 8 * 8, 2 * max(sizes[: number + 1]) * 8) + size * 8
    for layer, first in zip(layers, (0, 1), strict=False):
        expected = Tally(key % 7 + n % 2 for n, size in enumerate(sizes) if n >= first for key in range(size))
        keys, sums = layer.result()
        assert dict(zip(keys.tolist(), sums.tolist(), strict=True)) == expected
