"""Which patterns come and go from one counted step to the next (Eq. 6).

All are shares of the number of distinct patterns at the later step. The numerator as printed sums vanished minus
appeared patterns, which cancel where a layer swaps its patterns; the text counts both. `pattern_changes` follows the
text; `net_pattern_changes` keeps the cancellation, with the sign turned so that a growing pattern set is positive.
"""

from __future__ import annotations

from reluscope.measures._matching import num_shared, require_comparable
from reluscope.patterns import PatternCounts


def appeared(counts: PatternCounts, previous: PatternCounts) -> float:
    """Patterns present now but not at the previous step, over the distinct patterns now: 0 to 1."""
    return (len(counts.keys) - num_shared(counts, previous)) / len(counts.keys)


def vanished(counts: PatternCounts, previous: PatternCounts) -> float:
    """Patterns present at the previous step but not now, over the distinct patterns now: 0 upwards, without bound."""
    return (len(previous.keys) - num_shared(counts, previous)) / len(counts.keys)


def pattern_changes(counts: PatternCounts, previous: PatternCounts) -> float:
    """Appeared plus vanished patterns over the distinct patterns now (Eq. 6, its text).

    0 where the two sets are equal, 2 where all patterns were replaced by as many others; more where the set shrank.
    """
    return (len(counts.keys) + len(previous.keys) - 2 * num_shared(counts, previous)) / len(counts.keys)


def net_pattern_changes(counts: PatternCounts, previous: PatternCounts) -> float:
    """Appeared minus vanished patterns over the distinct patterns now (Eq. 6 as printed, its sign turned).

    The growth of the set: below 1, negative where it shrank, 0 where as many patterns appeared as vanished.
    """
    require_comparable(counts, previous)  # the shared patterns themselves cancel
    return (len(counts.keys) - len(previous.keys)) / len(counts.keys)
