"""Sorted counts: the sums are right, memory follows the distinct keys, and merging stays linear in the keys."""

from collections import Counter as Tally

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reluscope.counting.sorted_counts import SortedCounts

Run = tuple[NDArray[np.int64], NDArray[np.int64]]


def count(pieces: list[NDArray[np.int64]]) -> Run:
    keys, counts = np.unique(np.concatenate(pieces), return_counts=True)
    return keys, counts.astype(np.int64)


@given(st.lists(st.lists(st.integers(0, 40), min_size=1), min_size=1), st.integers(1, 60))
def test_sums_memory_and_work(pieces: list[list[int]], buffer_keys: int) -> None:
    num_merged = 0

    def merge(first: Run, second: Run) -> Run:
        nonlocal num_merged
        num_merged += len(first[0]) + len(second[0])
        sums = Tally(dict(zip(*first, strict=True)))
        sums.update(dict(zip(*second, strict=True)))
        keys = np.array(sorted(sums))
        return keys, np.array([sums[key] for key in keys])

    counts: SortedCounts[NDArray[np.int64]] = SortedCounts(count, merge, buffer_keys)
    seen: Tally[int] = Tally()
    for piece in pieces:
        counts.add(np.array(piece))
        seen.update(piece)
        assert sum(len(keys) for keys in counts._buffer) < max(buffer_keys, len(seen))
    assert num_merged <= 2 * seen.total()
    keys, sums = counts.result()
    assert keys.tolist() == sorted(seen)
    assert dict(zip(keys.tolist(), sums.tolist(), strict=True)) == seen
