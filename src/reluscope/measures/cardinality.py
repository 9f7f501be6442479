"""How many patterns there are: the cardinality of the pattern set."""

from __future__ import annotations

from reluscope.patterns import Counts


def distinct_patterns(counts: Counts) -> float:
    """Number of distinct patterns (Eq. 5): at least 1, at most the number of positions."""
    return float(counts.num_distinct)
