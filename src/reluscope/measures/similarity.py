"""How much the patterns of two steps overlap: weighted and plain Jaccard index."""

from __future__ import annotations

import numpy as np

from reluscope.measures._matching import matching, num_shared
from reluscope.patterns import PatternCounts


def weighted_jaccard(counts: PatternCounts, other: PatternCounts) -> float:
    """Sum of minima over sum of maxima of two count vectors (Eq. 10, the Ruzicka similarity).

    0 where the two share no pattern, 1 where they are equal.
    """
    here, there = matching(counts, other)
    minima = int(np.minimum(counts.counts[here], other.counts[there]).sum())
    return minima / (counts.num_positions + other.num_positions - minima)  # min(a, b) + max(a, b) = a + b


def jaccard(counts: PatternCounts, other: PatternCounts) -> float:
    """Shared patterns over all patterns of two states, regardless of how often they occur.

    0 where the two share no pattern, 1 where the sets are equal.
    """
    shared = num_shared(counts, other)
    return shared / (len(counts.keys) + len(other.keys) - shared)


def weighted_jaccard_to_initial(counts: PatternCounts, initial: PatternCounts) -> float:
    """Weighted Jaccard similarity to the initialisation (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, initial)


def weighted_jaccard_to_final(counts: PatternCounts, final: PatternCounts) -> float:
    """Weighted Jaccard similarity to the last counted step (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, final)


def weighted_jaccard_to_previous(counts: PatternCounts, previous: PatternCounts) -> float:
    """Weighted Jaccard similarity to the previous counted step (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, previous)


def jaccard_to_initial(counts: PatternCounts, initial: PatternCounts) -> float:
    """Jaccard index of the pattern sets now and at the initialisation: 0 to 1."""
    return jaccard(counts, initial)


def jaccard_to_final(counts: PatternCounts, final: PatternCounts) -> float:
    """Jaccard index of the pattern sets now and at the last counted step: 0 to 1."""
    return jaccard(counts, final)


def jaccard_to_previous(counts: PatternCounts, previous: PatternCounts) -> float:
    """Jaccard index of the pattern sets now and at the previous counted step: 0 to 1."""
    return jaccard(counts, previous)
