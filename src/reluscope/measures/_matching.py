"""Which patterns two states of one layer share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reluscope.patterns import Counts, PatternCounts

MERGED_FROM = 1 << 16
"""Keys in the smaller of two sets from which on compiled code merges them: NumPy takes milliseconds more, and for the
hundreds of comparisons in a run more than importing numba takes."""


def matching(counts: PatternCounts, other: PatternCounts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the patterns that both hold stand in the one and in the other: two index arrays, each of shape [shared].

    Without compiled code each key of the smaller set is looked up in the larger. Both are sorted, so the look-ups run
    through memory in order.
    """
    if _are_large(counts, other):
        from reluscope.measures._merging import merge

        return merge(counts.keys, other.keys)  # type: ignore[no-any-return]
    if len(counts.keys) > len(other.keys):
        there, here = matching(other, counts)
        return here, there
    if len(counts.keys) == 0:  # a sample may be empty
        return np.empty(0, np.intp), np.empty(0, np.intp)
    place = np.searchsorted(other.keys, counts.keys)
    place[place == len(other.keys)] = 0  # beyond the last key: any place will do, it cannot match
    here = np.flatnonzero(other.keys[place] == counts.keys)
    return here, place[here]


def sum_of_minima(counts: PatternCounts, other: PatternCounts) -> int:
    """The smaller of the two counts of each pattern that both hold, summed."""
    if _are_large(counts, other):
        from reluscope.measures import _merging

        return int(_merging.sum_of_minima(counts.keys, counts.narrow_counts, other.keys, other.narrow_counts))
    here, there = matching(counts, other)
    return int(np.minimum(counts.narrow_counts[here], other.narrow_counts[there]).sum(dtype=np.int64))


def _are_large(counts: PatternCounts, other: PatternCounts) -> bool:
    return min(len(counts.keys), len(other.keys)) >= MERGED_FROM


def require_comparable(counts: Counts, other: Counts) -> None:
    """Raise a ValueError where the two have different numbers of channels: their keys do not compare.

    Nor do samples of different shares.
    """
    for name in ("num_channels", "one_in"):
        if getattr(counts, name) != getattr(other, name):
            raise ValueError(
                f"comparing pattern counts: expected the same {name}, but got {getattr(counts, name)} "
                f"({counts.layer_name}) and {getattr(other, name)} ({other.layer_name})"
            )


def set_sizes(counts: Counts, other: Counts) -> tuple[int, int, int]:
    """How many of the distinct patterns that are kept both hold, only the one, and only the other.

    Raises:
        ValueError: see `require_comparable`.
    """
    require_comparable(counts, other)
    shared = len(matching(counts.sample, other.sample)[0])
    return shared, counts.sample.num_distinct - shared, other.sample.num_distinct - shared
