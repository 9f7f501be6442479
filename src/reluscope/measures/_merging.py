"""Merging two sorted key sets, compiled: for sets so large that importing numba pays."""

# mypy: disable-error-code="no-untyped-def"
# (numba's functions are compiled for each width of the keys)

from __future__ import annotations

import numpy as np

from reluscope.compiling import compiled


@compiled
def merge(keys, others):
    """Where the keys that both hold stand in the one and in the other: two intp arrays, each of shape [shared].

    Both ascend strictly. A step has no branch, which no processor could foresee.
    """
    most = min(len(keys), len(others))
    here, there = np.empty(most + 1, np.intp), np.empty(most + 1, np.intp)  # a step writes before it knows
    i, j, shared = 0, 0, 0
    while i < len(keys) and j < len(others):
        here[shared] = i
        there[shared] = j
        key, other = keys[i], others[j]
        shared += key == other
        i += key <= other
        j += other <= key
    return here[:shared], there[:shared]


@compiled
def sum_of_minima(keys, counts, others, other_counts):
    """The smaller of the two counts of each key that both hold, summed; as `merge`, in two halves.

    These take turns: a step waits for its predecessor, but not for the other half's.
    """
    end, other_end = np.uint64(len(keys)), np.uint64(len(others))
    middle, other_middle = _halves(keys, others)
    i, j, p, q = np.uint64(0), np.uint64(0), middle, other_middle
    low, high = np.int64(0), np.int64(0)
    while i < middle and j < other_middle and p < end and q < other_end:
        i, j, minimum = _step(keys, counts, others, other_counts, i, j)
        low += minimum
        p, q, minimum = _step(keys, counts, others, other_counts, p, q)
        high += minimum
    while i < middle and j < other_middle:
        i, j, minimum = _step(keys, counts, others, other_counts, i, j)
        low += minimum
    while p < end and q < other_end:
        p, q, minimum = _step(keys, counts, others, other_counts, p, q)
        high += minimum
    return low + high


@compiled
def _step(keys, counts, others, other_counts, i, j):
    """The next pair of indices, and the smaller count of the key at this one, or 0."""
    key, other = keys[i], others[j]
    minimum = np.int64(min(counts[i], other_counts[j])) * (key == other)
    return i + np.uint64(key <= other), j + np.uint64(other <= key), minimum


@compiled
def _halves(keys, others):
    """Where to cut both, so that what lies below is less than what lies above, and about as much."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if middle + np.searchsorted(others, keys[middle]) < (len(keys) + len(others)) // 2:
            low = middle + 1
        else:
            high = middle
    there = np.searchsorted(others, keys[low]) if low < len(keys) else len(others)
    return np.uint64(low), np.uint64(there)
