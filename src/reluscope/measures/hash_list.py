"""What a hash list of fixed size (Algorithm 1) would have made of the exact counts.

The list has `slots` slots; a pattern falls into the slot key mod slots. Patterns that share a slot are counted as one.

Sampled counts do not tell which patterns share a slot. Where there are as many slots as possible keys, none do; else
the used slots are taken to be as many as if each distinct pattern fell into a slot at random. The standard error is not
known: in ResNet-20 on CIFAR-10 the occupancy was at most 0.002 off with the paper's 3e8 slots for 19 layers, and up to
0.11 too large in trained layers with 500,000 slots, whose factors of 2 the keys do not fill evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reluscope.measures._estimates import Estimate
from reluscope.patterns import EXACT_CHANNELS, Counts, SampledCounts

_KEYS_AT_ONCE = 1 << 16  # what is computed of them stays in the processor's cache
_DEFAULT_SLOTS = 30_000  # the default of Algorithm 1, as printed
_LISTED = 1 << 32  # slots up to which a list takes less memory and time than sorting what falls into them


def occupancy(counts: Counts, slots: int = _DEFAULT_SLOTS) -> float | Estimate:
    """Used slots over slots of Algorithm 1's hash list: above 0, at most 1.

    Raises:
        ValueError: `slots` is not a whole number of at least 1.
    """
    return _share(counts, slots, lambda used: used / slots)


def lost_patterns(counts: Counts, slots: int = _DEFAULT_SLOTS) -> float | Estimate:
    """Share of the distinct patterns that collisions in such a hash list hide: 1 - used slots / distinct patterns.

    0 where each pattern has a slot of its own; below 1.

    Raises:
        ValueError: `slots` is not a whole number of at least 1.
    """
    return _share(counts, slots, lambda used: (counts.num_distinct - used) / (counts.num_distinct or math.nan))


def _num_used(keys: NDArray[np.unsignedinteger], slots: int) -> int:
    """How many slots a key modulo their number reaches."""
    if slots > np.iinfo(keys.dtype).max:
        return len(keys)  # each has its own
    divisor = keys.dtype.type(slots)
    if slots > _LISTED:
        return len(np.unique(keys % divisor))
    used = np.zeros(slots, dtype=np.bool_)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        part = keys[start : start + _KEYS_AT_ONCE]
        used[part - part // divisor * divisor] = True  # the remainder: NumPy divides several at a time, % does not
    return int(np.count_nonzero(used))


def _share(counts: Counts, slots: int, share_of: Callable[[float], float]) -> float | Estimate:
    """A share of the used slots, by how many they are."""
    if not isinstance(slots, (int, np.integer)) or slots < 1:
        raise ValueError(f"slots: expected a whole number of at least 1, but got {slots!r}")
    if not isinstance(counts, SampledCounts):
        return share_of(_num_used(counts.keys, int(slots)))
    if slots == 1 or slots >= 1 << min(counts.num_channels, EXACT_CHANNELS):
        return share_of(min(counts.num_distinct, slots))
    at_random = -slots * math.expm1(counts.num_distinct * math.log1p(-1 / slots))
    return Estimate(share_of(at_random), math.nan)
