"""Sorted runs: the sum is right, and memory stays bounded by the distinct keys."""

from collections import Counter as Tally
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reluscope.counting.runs import SortedRuns

Run = tuple[NDArray[np.int64], NDArray[np.int64]]


def count(pieces: list[NDArray[np.int64]]) -> Run:
    keys, counts = np.unique(np.concatenate(pieces), return_counts=True)
    return keys, counts.astype(np.int64)


def merge(first: Run, second: Run) -> Run:
    sums = Tally(dict(zip(*first, strict=True)))
    sums.update(dict(zip(*second, strict=True)))
    keys = np.array(sorted(sums))
    return keys, np.array([sums[key] for key in keys])


@given(st.lists(st.lists(st.integers(0, 40), min_size=1), min_size=1), st.integers(1, 60))
def test_the_runs_add_up_and_stay_geometric(pieces: list[list[int]], buffer_keys: int) -> None:
    runs: SortedRuns[NDArray[np.int64]] = SortedRuns(count, merge, buffer_keys)
    for piece in pieces:
        runs.add(np.array(piece))
        lengths = [len(keys) for keys, _ in runs._runs]
        assert all(longer >= 2 * shorter for longer, shorter in pairwise(lengths))
        assert sum(len(keys) for keys in runs._pending) < buffer_keys
    expected = Tally(key for piece in pieces for key in piece)
    keys, counts = runs.result()
    assert keys.tolist() == sorted(expected)
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == expected
