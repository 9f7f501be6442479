"""How much the patterns of two steps overlap: weighted and plain Jaccard index.

From sampled counts all are estimates with a standard error (`_estimates`).
"""

from __future__ import annotations

import math

import numpy as np

from reluscope.measures._estimates import Estimate, ratio
from reluscope.measures._matching import matching, require_comparable, set_sizes, sum_of_minima
from reluscope.patterns import Counts


def weighted_jaccard(counts: Counts, other: Counts) -> float | Estimate:
    """Sum of minima over sum of maxima of two count vectors (Eq. 10, the Ruzicka similarity).

    0 where the two share no pattern, 1 where they are equal.
    """
    if counts is other:
        return 1.0  # exact, also of samples
    require_comparable(counts, other)
    one, two = counts.sample, other.sample
    if counts.one_in == 1:
        total = sum_of_minima(one, two)
        return total / ((one.num_positions + two.num_positions - total) or math.nan)  # min(a, b) + max(a, b) = a + b
    here, there = matching(one, two)
    minima = np.minimum(one.counts[here], two.counts[there])
    alone = np.concatenate([np.delete(one.counts, here), np.delete(two.counts, there)])  # the other's count is 0
    maxima = np.concatenate([np.maximum(one.counts[here], two.counts[there]), alone])
    return ratio(np.concatenate([minima, np.zeros_like(alone)]), maxima, counts.one_in)


def jaccard(counts: Counts, other: Counts) -> float | Estimate:
    """Shared patterns over all patterns of two states, regardless of how often they occur.

    0 where the two share no pattern, 1 where the sets are equal.
    """
    if counts is other:
        return 1.0
    return ratio([1, 0, 0], [1, 1, 1], counts.one_in, times=set_sizes(counts, other))


def weighted_jaccard_to_initial(counts: Counts, initial: Counts) -> float | Estimate:
    """Weighted Jaccard similarity to the initialisation (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, initial)


def weighted_jaccard_to_final(counts: Counts, final: Counts) -> float | Estimate:
    """Weighted Jaccard similarity to the last counted step (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, final)


def weighted_jaccard_to_previous(counts: Counts, previous: Counts) -> float | Estimate:
    """Weighted Jaccard similarity to the previous counted step (Eq. 10): 0 to 1."""
    return weighted_jaccard(counts, previous)


def jaccard_to_initial(counts: Counts, initial: Counts) -> float | Estimate:
    """Jaccard index of the pattern sets now and at the initialisation: 0 to 1."""
    return jaccard(counts, initial)


def jaccard_to_final(counts: Counts, final: Counts) -> float | Estimate:
    """Jaccard index of the pattern sets now and at the last counted step: 0 to 1."""
    return jaccard(counts, final)


def jaccard_to_previous(counts: Counts, previous: Counts) -> float | Estimate:
    """Jaccard index of the pattern sets now and at the previous counted step: 0 to 1."""
    return jaccard(counts, previous)
