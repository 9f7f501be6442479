"""Every measure against hand-computed cases, dictionaries and SciPy."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from reluscope import measures
from reluscope.patterns import PatternCounts, entropy_of, key_dtype


def pattern_counts(occurrences: dict[int, int], num_channels: int = 8) -> PatternCounts:
    keys = np.array(sorted(occurrences), dtype=key_dtype(num_channels))
    counts = np.array([occurrences[key] for key in sorted(occurrences)], dtype=np.int64)
    return PatternCounts("relu", keys, counts, num_channels)


# Keys from a small set, so that two states often share some, and keys that differ only below float64's 53 bits.
some_keys = st.integers(0, 12) | st.integers(2**63, 2**63 + 4) | st.integers(2**64 - 5, 2**64 - 1)
states = st.dictionaries(some_keys, st.integers(1, 1000), min_size=1, max_size=20)
slot_numbers = st.integers(1, 40)

BEFORE = pattern_counts({1: 4, 2: 2, 3: 2})
AFTER = pattern_counts({2: 1, 3: 5, 7: 1, 9: 1})  # 1 vanished; 7 and 9 appeared


def test_by_hand() -> None:
    assert measures.distinct_patterns(AFTER) == 4.0
    assert measures.appeared(AFTER, BEFORE) == 2 / 4
    assert measures.vanished(AFTER, BEFORE) == 1 / 4
    assert measures.pattern_changes(AFTER, BEFORE) == 3 / 4
    assert measures.net_pattern_changes(AFTER, BEFORE) == 1 / 4
    assert measures.most_frequent_pattern(AFTER) == 5 / 8
    assert measures.entropy(BEFORE) == 1.5  # 1/2 * 1 + 1/4 * 2 + 1/4 * 2
    assert measures.relative_entropy(BEFORE) == 1.5 / 3  # min(8 channels, log2 of 8 positions)
    assert measures.weighted_jaccard(AFTER, BEFORE) == 3 / 13  # minima 1 + 2; maxima 4 + 2 + 5 + 1 + 1
    assert measures.jaccard(AFTER, BEFORE) == 2 / 5


def test_complete_replacement_is_two_changes_a_pattern_and_no_net_change() -> None:
    replaced = pattern_counts({11: 4, 12: 2, 13: 2})
    assert measures.pattern_changes(replaced, BEFORE) == 2.0
    assert measures.net_pattern_changes(replaced, BEFORE) == 0.0
    assert measures.weighted_jaccard(replaced, BEFORE) == 0.0
    assert measures.jaccard(replaced, BEFORE) == 0.0


@pytest.mark.parametrize("bits", [1, 5, 16])
def test_uniform_over_all_patterns_has_the_full_entropy(bits: int) -> None:
    uniform = PatternCounts("relu", np.arange(2**bits, dtype=np.uint16), np.full(2**bits, 3), num_channels=bits)
    assert measures.entropy(uniform) == pytest.approx(bits, rel=1e-12)
    assert measures.relative_entropy(uniform) == pytest.approx(1.0, rel=1e-12)


def test_the_largest_entropy_is_bounded_by_the_positions_too() -> None:
    assert measures.relative_entropy(pattern_counts(dict.fromkeys(range(16), 1), num_channels=64)) == 1.0


@pytest.mark.parametrize("positions", [1, 7])
def test_one_single_pattern_has_no_entropy(positions: int) -> None:
    constant = pattern_counts({0: positions})
    for value in (measures.entropy(constant), measures.relative_entropy(constant)):
        assert value == 0.0
        assert math.copysign(1.0, value) == 1.0  # not -0.0
    assert measures.most_frequent_pattern(constant) == 1.0


@given(states)
def test_distribution_measures_equal_scipy(state: dict[int, int]) -> None:
    counts = pattern_counts(state, num_channels=64)
    frequencies = list(state.values())
    expected = scipy.stats.entropy(frequencies, base=2)
    assert measures.entropy(counts) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if sum(frequencies) > 1:
        largest = min(64, math.log2(sum(frequencies)))
        assert measures.relative_entropy(counts) == pytest.approx(expected / largest, rel=1e-12, abs=1e-12)
    assert 0.0 <= measures.relative_entropy(counts) <= 1.0
    assert measures.most_frequent_pattern(counts) == max(frequencies) / sum(frequencies)
    assert measures.distinct_patterns(counts) == len(state)


@given(states, states)
def test_comparisons_equal_counters_and_sets(now: dict[int, int], then: dict[int, int]) -> None:
    counts, other = pattern_counts(now, num_channels=64), pattern_counts(then, num_channels=64)
    minima, maxima = Counter(now) & Counter(then), Counter(now) | Counter(then)
    assert measures.weighted_jaccard(counts, other) == minima.total() / maxima.total()
    assert measures.jaccard(counts, other) == len(now.keys() & then.keys()) / len(now.keys() | then.keys())
    assert measures.appeared(counts, other) == len(now.keys() - then.keys()) / len(now)
    assert measures.vanished(counts, other) == len(then.keys() - now.keys()) / len(now)
    assert measures.pattern_changes(counts, other) == len(now.keys() ^ then.keys()) / len(now)
    net = len(now.keys() - then.keys()) - len(then.keys() - now.keys())
    assert measures.net_pattern_changes(counts, other) == net / len(now)


@pytest.mark.parametrize("num_channels", [16, 32, 64])
@pytest.mark.parametrize("merged_from", [0, 1 << 62])
def test_large_sets_are_compared_as_small_ones_are(
    num_channels: int, merged_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By compiled code and without it; either set may end first."""
    monkeypatch.setattr("reluscope.measures._matching.MERGED_FROM", merged_from)
    random = np.random.default_rng(num_channels)
    states = [
        dict(zip(random.choice(500, n, replace=False).tolist(), random.integers(1, 9, n).tolist(), strict=True))
        for n in (200, 300)
    ]
    for now, then in itertools.product([*states, {7: 1}, {499: 3, 600: 1}], repeat=2):
        counts, other = (pattern_counts(state, num_channels) for state in (now, then))
        minima = sum(min(now[key], then[key]) for key in now.keys() & then.keys())
        maxima = sum(max(now.get(key, 0), then.get(key, 0)) for key in now.keys() | then.keys())
        assert measures.weighted_jaccard(counts, other) == minima / maxima
        assert measures.jaccard(counts, other) == len(now.keys() & then.keys()) / len(now.keys() | then.keys())


@pytest.mark.parametrize("merged_from", [0, 1 << 30])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_sums_outgrow_the_type_that_counts_are_held_in(dtype: type, merged_from: int, monkeypatch) -> None:
    """By compiled code and without it."""
    monkeypatch.setattr("reluscope.measures._matching.MERGED_FROM", merged_from)
    most = min(int(np.iinfo(dtype).max), 1 << 40)
    one = held({1: most, 2: most, 3: most, 5: 1}, dtype)
    other = held({1: most, 2: most - 1, 3: most, 4: most}, dtype)
    assert one.num_positions == 3 * most + 1
    assert measures.weighted_jaccard(one, other) == (3 * most - 1) / (4 * most + 1)
    expected = scipy.stats.entropy([most, most, most, 1], base=2)
    assert measures.entropy(one) == pytest.approx(expected, rel=1e-13)


def held(state: dict[int, int], dtype: type) -> PatternCounts:
    """Counts as a store holds them."""
    counts = pattern_counts(state)

    class Held(PatternCounts):
        narrow_counts = counts.counts.astype(dtype)

    return Held(**{field.name: getattr(counts, field.name) for field in dataclasses.fields(counts)})


def test_entropy_is_of_all_patterns_however_many() -> None:
    """More than are taken at a time."""
    counts = np.random.default_rng(0).geometric(0.001, 200_001)
    assert entropy_of(counts) == pytest.approx(scipy.stats.entropy(counts, base=2), rel=1e-13)


def test_entropy_takes_small_and_large_counts_together() -> None:
    assert entropy_of(np.array([3, 1], np.uint8)) == pytest.approx(scipy.stats.entropy([3, 1], base=2), rel=1e-13)
    for counts in ([1, 4095, 4096, 4097, 1, 100_000], [5000, 7000], [3, 3, 3], [1 << 40]):
        entropy = measures.entropy(pattern_counts(dict(enumerate(counts))))
        assert entropy == pytest.approx(scipy.stats.entropy(counts, base=2), rel=1e-13)


@given(states, states)
def test_similarities_are_symmetric_bounded_and_one_on_the_diagonal(now: dict[int, int], then: dict[int, int]) -> None:
    counts, other = pattern_counts(now, num_channels=64), pattern_counts(then, num_channels=64)
    for similarity in (measures.weighted_jaccard, measures.jaccard):
        assert similarity(counts, other) == similarity(other, counts)
        assert 0.0 <= similarity(counts, other) <= 1.0
        assert similarity(counts, counts) == 1.0


@given(states, st.integers(2, 50))
def test_shares_do_not_change_when_all_counts_are_multiplied(state: dict[int, int], factor: int) -> None:
    counts = pattern_counts(state, num_channels=64)
    multiplied = pattern_counts({key: factor * count for key, count in state.items()}, num_channels=64)
    assert measures.entropy(multiplied) == pytest.approx(measures.entropy(counts), rel=1e-12, abs=1e-12)
    assert measures.most_frequent_pattern(multiplied) == pytest.approx(measures.most_frequent_pattern(counts))
    assert measures.jaccard(multiplied, counts) == 1.0
    assert measures.weighted_jaccard(multiplied, counts) == pytest.approx(1 / factor)


@given(states, slot_numbers)
def test_hash_list_measures_equal_algorithm_1(state: dict[int, int], slots: int) -> None:
    counts = pattern_counts(state, num_channels=64)
    hash_list = np.zeros(slots, dtype=np.int32)
    np.add.at(hash_list, [key % slots for key, count in state.items() for _ in range(count)], 1)
    used = int((hash_list > 0).sum())
    assert measures.occupancy(counts, slots=slots) == used / slots
    assert measures.lost_patterns(counts, slots=slots) == pytest.approx(1 - used / len(state), abs=1e-15)


def test_hash_lists_longer_than_the_key_type_lose_nothing() -> None:
    counts = pattern_counts({0: 1, 1: 1, 65_535: 1}, num_channels=16)
    assert measures.lost_patterns(counts, slots=70_000) == 0.0
    assert measures.occupancy(counts, slots=70_000) == 3 / 70_000
    assert measures.occupancy(counts) == 3 / 30_000  # 65,535 mod 30,000 = 5,535


@pytest.mark.parametrize("slots", [0, -3, 2.5, "many"])
def test_a_hash_list_needs_slots(slots: object) -> None:
    with pytest.raises(ValueError, match="slots: expected a whole number of at least 1, but got"):
        measures.occupancy(BEFORE, slots=slots)


def test_to_initial_final_and_previous_name_what_they_compare_with() -> None:
    for name in ("weighted_jaccard", "jaccard"):
        for need in ("initial", "final", "previous"):
            measure = measures.find(f"{name}_to_{need}")
            assert measure.needs == {need}
            assert measure.function(AFTER, **{need: BEFORE}) == getattr(measures, name)(AFTER, BEFORE)


@pytest.mark.parametrize(
    "compare",
    ["appeared", "vanished", "pattern_changes", "net_pattern_changes", "jaccard", "weighted_jaccard"],
)
def test_layers_of_different_widths_are_not_compared(compare: str) -> None:
    with pytest.raises(ValueError, match=r"expected the same num_channels, but got 8 \(relu\) and 5 \(relu\)"):
        getattr(measures, compare)(BEFORE, pattern_counts({1: 1}, num_channels=5))


def test_every_measure_gives_a_python_float() -> None:
    for name in [name for name in measures.names() if not measures.needs(name) & measures.OF_CLASSES]:
        measure = measures.find(name)
        assert type(measure.function(AFTER, **dict.fromkeys(measure.needs, BEFORE))) is float, name


def test_a_layer_that_saw_nothing_has_no_measure() -> None:
    """An expert may be given no token at a step."""
    nothing = PatternCounts("a", np.empty(0, np.uint16), np.empty(0, np.int64), 5, 0, 0)
    some = PatternCounts("a", np.array([1, 2], np.uint16), np.array([3, 4]), 5, 0, 0)
    for alone in (measures.entropy, measures.relative_entropy, measures.most_frequent_pattern, measures.lost_patterns):
        assert np.isnan(alone(nothing))
    for changes in (measures.pattern_changes, measures.appeared, measures.vanished, measures.net_pattern_changes):
        assert np.isnan(changes(nothing, some))
    assert (
        measures.weighted_jaccard(nothing, some)
        == measures.jaccard(some, nothing)
        == measures.vanished(some, nothing)
        == 0
    )
    assert (nothing.largest_count, nothing.sampled(2).num_positions) == (0, 0)
