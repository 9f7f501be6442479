"""How evenly the positions spread over the patterns."""

from __future__ import annotations

import math

from reluscope.patterns import Counts


def most_frequent_pattern(counts: Counts) -> float:
    """Share of all positions that show the most frequent pattern (Eq. 7): above 0, at most 1."""
    return counts.largest_count / counts.num_positions if counts.num_positions else math.nan


def entropy(counts: Counts) -> float:
    """Entropy of the observed patterns, in bits (Eq. 8): 0 for one single pattern, k for 2**k equally frequent ones.

    A pattern's probability is its count over the number of positions; the printed c_i / N_l would not sum to 1.
    """
    return counts.entropy


def relative_entropy(counts: Counts) -> float:
    """Entropy over the largest possible one, min(num_channels, log2(num_positions)) (Eq. 9): 0 to 1.

    0 for one single position, which leaves no choice.
    """
    positions = counts.num_positions
    if positions < 2:
        return 0.0 if positions else math.nan
    largest = min(counts.num_channels, math.log2(positions))
    return min(entropy(counts) / largest, 1.0)  # rounding may exceed 1 by an ulp
