"""Merging two sorted key sets, compiled: for sets so large that importing numba pays."""

# mypy: disable-error-code="no-untyped-def"
# (numba's functions are compiled for each width of the keys)

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def sum_of_minima(keys, counts, others, other_counts):
    """The smaller of the two counts of each key that both hold, summed."""
    i, j, total = 0, 0, 0
    while i < len(keys) and j < len(others):
        key, other = keys[i], others[j]
        total += min(counts[i], other_counts[j]) * (key == other)
        i += key <= other
        j += other <= key
    return total
