"""Which patterns come and go from one counted step to the next (Eq. 6).

All are shares of the number of distinct patterns at the later step. The numerator as printed sums vanished minus
appeared patterns, which cancel where a layer swaps its patterns; the text counts both. `pattern_changes` follows the
text; `net_pattern_changes` keeps the cancellation, with the sign turned so that a growing pattern set is positive.

From sampled counts all but `net_pattern_changes`, which is exact, are estimates with a standard error (`_estimates`).
"""

from __future__ import annotations

import math

from reluscope.measures._estimates import Estimate, ratio
from reluscope.measures._matching import require_comparable, set_sizes
from reluscope.patterns import Counts

_NOW = [1, 1, 0]  # of shared patterns, those only of now, and those only of before: the ones that are there now


def appeared(counts: Counts, previous: Counts) -> float | Estimate:
    """Patterns present now but not at the previous step, over the distinct patterns now: 0 to 1."""
    return ratio([0, 1, 0], _NOW, counts.one_in, times=set_sizes(counts, previous))


def vanished(counts: Counts, previous: Counts) -> float | Estimate:
    """Patterns present at the previous step but not now, over the distinct patterns now: 0 upwards, without bound."""
    return ratio([0, 0, 1], _NOW, counts.one_in, times=set_sizes(counts, previous))


def pattern_changes(counts: Counts, previous: Counts) -> float | Estimate:
    """Appeared plus vanished patterns over the distinct patterns now (Eq. 6, its text).

    0 where the two sets are equal, 2 where all patterns were replaced by as many others; more where the set shrank.
    """
    return ratio([0, 1, 1], _NOW, counts.one_in, times=set_sizes(counts, previous))


def net_pattern_changes(counts: Counts, previous: Counts) -> float:
    """Appeared minus vanished patterns over the distinct patterns now (Eq. 6 as printed, its sign turned).

    The growth of the set: below 1, negative where it shrank, 0 where as many patterns appeared as vanished.
    """
    require_comparable(counts, previous)  # the shared patterns themselves cancel
    return (counts.num_distinct - previous.num_distinct) / (counts.num_distinct or math.nan)
