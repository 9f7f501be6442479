"""Which patterns two states of one layer share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reluscope.patterns import Counts, PatternCounts


def matching(counts: PatternCounts, other: PatternCounts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the patterns that both hold stand in the one and in the other: two index arrays, each of shape [shared].

    Looks each key of the smaller set up in the larger. Both are sorted, so the look-ups run through memory in order:
    as fast as merging the two, in less memory.
    """
    if len(counts.keys) > len(other.keys):
        there, here = matching(other, counts)
        return here, there
    if len(counts.keys) == 0:  # a sample may be empty
        return np.empty(0, np.intp), np.empty(0, np.intp)
    place = np.searchsorted(other.keys, counts.keys)
    place[place == len(other.keys)] = 0  # beyond the last key: any place will do, it cannot match
    here = np.flatnonzero(other.keys[place] == counts.keys)
    return here, place[here]


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
