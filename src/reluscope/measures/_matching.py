"""Which patterns two states of one layer share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reluscope.patterns import PatternCounts


def matching(counts: PatternCounts, other: PatternCounts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the patterns that both hold stand in the one and in the other: two index arrays, each of shape [shared].

    Looks each key of the smaller set up in the larger. Both are sorted, so the look-ups run through memory in order:
    as fast as merging the two, in less memory.

    Raises:
        ValueError: see `require_comparable`.
    """
    require_comparable(counts, other)
    if len(counts.keys) > len(other.keys):
        there, here = matching(other, counts)
        return here, there
    place = np.searchsorted(other.keys, counts.keys)
    place[place == len(other.keys)] = 0  # beyond the last key: any place will do, it cannot match
    here = np.flatnonzero(other.keys[place] == counts.keys)
    return here, place[here]


def require_comparable(counts: PatternCounts, other: PatternCounts) -> None:
    """Raise a ValueError where the two have different numbers of channels: their keys do not compare."""
    if counts.num_channels != other.num_channels:
        raise ValueError(
            f"comparing pattern counts: expected the same num_channels, but got {counts.num_channels} "
            f"({counts.layer_name}) and {other.num_channels} ({other.layer_name})"
        )


def num_shared(counts: PatternCounts, other: PatternCounts) -> int:
    """How many distinct patterns both hold."""
    return len(matching(counts, other)[0])
