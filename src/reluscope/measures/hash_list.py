"""What a hash list of fixed size (Algorithm 1) would have made of the exact counts.

The list has `slots` slots; a pattern falls into the slot key mod slots. Patterns that share a slot are counted as one.
"""

from __future__ import annotations

import numpy as np

from reluscope.patterns import PatternCounts

_DEFAULT_SLOTS = 30_000  # the default of Algorithm 1, as printed


def occupancy(counts: PatternCounts, slots: int = _DEFAULT_SLOTS) -> float:
    """Used slots over slots of Algorithm 1's hash list: above 0, at most 1.

    Raises:
        ValueError: `slots` is not a whole number of at least 1.
    """
    return _used_slots(counts, slots) / slots


def lost_patterns(counts: PatternCounts, slots: int = _DEFAULT_SLOTS) -> float:
    """Share of the distinct patterns that collisions in such a hash list hide: 1 - used slots / distinct patterns.

    0 where each pattern has a slot of its own; below 1.

    Raises:
        ValueError: `slots` is not a whole number of at least 1.
    """
    return (len(counts.keys) - _used_slots(counts, slots)) / len(counts.keys)


def _used_slots(counts: PatternCounts, slots: int) -> int:
    if not isinstance(slots, (int, np.integer)) or slots < 1:
        raise ValueError(f"slots: expected a whole number of at least 1, but got {slots!r}")
    used = np.zeros(slots, dtype=np.bool_)
    used[counts.keys.astype(np.uint64) % np.uint64(slots)] = True
    return int(np.count_nonzero(used))
