"""More slots than fit into memory are counted without them."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope import measures
from reluscope.measures import hash_list
from reluscope.patterns import PatternCounts


@pytest.mark.parametrize("slots", [(1 << 32) + 15, 10**12, 1 << 63, 10**22])
def test_keys_modulo_so_many_slots(slots: int) -> None:
    keys = np.sort(np.array([1, 2, 3, 1 + slots, 2 + 2 * slots, (1 << 64) - 1], dtype=object) % (1 << 64)).astype(
        np.uint64
    )
    counts = PatternCounts("relu", np.unique(keys), np.ones(len(np.unique(keys)), np.int64), 64)
    used = len({int(key) % slots for key in counts.keys})
    assert measures.occupancy(counts, slots=slots) == used / slots


def test_both_ways_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.unique(np.random.default_rng(0).integers(0, 1 << 63, 5_000, np.int64)).astype(np.uint64)
    counts = PatternCounts("relu", keys, np.ones(len(keys), np.int64), 64)
    listed = measures.occupancy(counts, slots=7_001)
    monkeypatch.setattr(hash_list, "_LISTED", 0)
    assert measures.occupancy(counts, slots=7_001) == listed
