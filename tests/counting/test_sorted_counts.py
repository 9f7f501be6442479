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
