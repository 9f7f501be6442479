"""Measures of sampled counts: exact where the whole count is known, else estimates whose standard error holds."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from reluscope import measures
from reluscope.measures import Estimate
from reluscope.patterns import Counts, PatternCounts, SampledCounts

EXACT = {"distinct_patterns", "net_pattern_changes", "most_frequent_pattern", "entropy", "relative_entropy"}
BY_SLOTS = {"occupancy", "lost_patterns"}
OF_CLASSES = {name for name in measures.names() if measures.needs(name) & measures.OF_CLASSES}
ESTIMATED = set(measures.names()) - EXACT - BY_SLOTS - OF_CLASSES


def pattern_counts(occurrences: dict[int, int], num_channels: int = 64) -> PatternCounts:
    keys = np.array(sorted(occurrences), np.uint64)
    return PatternCounts("relu", keys, np.array([occurrences[key] for key in keys.tolist()], np.int64), num_channels)


def sampled_counts(occurrences: dict[int, int], one_in: int = 4, num_channels: int = 64) -> SampledCounts:
    """A sample of which nothing else is known: what is estimated must need nothing else."""
    return SampledCounts(pattern_counts(occurrences, num_channels), one_in, -1, -1, -1, math.nan)


def measure(name: str, counts: Counts, other: Counts) -> Any:
    found = measures.find(name)
    return found.function(counts=counts, **dict.fromkeys(found.needs, other))


def random_pair(random: np.random.Generator) -> tuple[PatternCounts, PatternCounts]:
    """Two states of a layer: skewed counts, some patterns shared, whose counts have changed."""
    keys = np.unique(random.integers(0, 2**64, random.integers(10_000, 30_000), dtype=np.uint64))
    counts = np.ceil(random.lognormal(0, random.uniform(0.2, 1.2), len(keys)))
    factors = random.lognormal(0, random.uniform(0.1, 1), len(keys))
    shared, edge = random.uniform(0.1, 0.9, 2)
    kind = random.random(len(keys))
    now, then = kind < shared + (1 - shared) * edge, (kind < shared) | (kind > shared + (1 - shared) * edge)
    states = [(now, counts), (then, np.ceil(counts * factors))]
    made = [PatternCounts("relu", keys[here], number[here].astype(np.int64), 64) for here, number in states]
    return made[0], made[1]


def test_what_is_estimated_and_what_is_not() -> None:
    assert len(EXACT | BY_SLOTS | ESTIMATED | OF_CLASSES) == len(measures.names())
    now, then = random_pair(np.random.default_rng(0))
    for name in set(measures.names()) - OF_CLASSES:  # labels do not go with samples
        assert isinstance(measure(name, now.sampled(16), then.sampled(16)), float if name in EXACT else Estimate), name


def test_whole_counts_give_the_same_bits_from_a_sample() -> None:
    now, then = random_pair(np.random.default_rng(1))
    for name in EXACT:
        assert measure(name, now.sampled(16), then.sampled(16)) == measure(name, now, then), name


def test_by_hand() -> None:
    now, then = sampled_counts({1: 4, 2: 2, 3: 2}), sampled_counts({2: 1, 3: 5, 7: 1})
    squares = {
        "weighted_jaccard_to_initial": (3 / 12, 1**2 + 0.5**2 + 0.75**2 + 0.25**2, 12),  # y - r x of 1, 2, 3 and 7
        "jaccard_to_final": (2 / 4, 4 * 0.5**2, 4),
        "appeared": (1 / 3, (2 / 3) ** 2 + 2 * (1 / 3) ** 2, 3),
        "vanished": (1 / 3, 3 * (1 / 3) ** 2 + 1**2, 3),
        "pattern_changes": (2 / 3, (1 / 3) ** 2 + 2 * (2 / 3) ** 2 + 1**2, 3),
    }
    for name, (value, squared, total) in squares.items():
        estimate = measure(name, now, then)
        assert estimate.value == pytest.approx(value, rel=1e-14), name
        assert estimate.standard_error == pytest.approx(math.sqrt(3 / 4 * squared) / total, rel=1e-14), name


@pytest.mark.parametrize("one_in", [4, 16])
def test_the_truth_lies_within_the_standard_errors_as_often_as_it_should(one_in: int) -> None:
    """Of 200 pairs 95% within 1.96: 190, give or take 3; and on average there is no bias to speak of."""
    random = np.random.default_rng(one_in)
    compare = [measures.weighted_jaccard, measures.jaccard]
    compare += [measures.appeared, measures.vanished, measures.pattern_changes]
    deviations: dict[str, list[float]] = {function.__name__: [] for function in compare}
    for _ in range(200):
        now, then = random_pair(random)
        here, there = now.sampled(one_in), then.sampled(one_in)
        for function in compare:
            estimate = function(here, there)
            deviations[function.__name__].append((estimate.value - function(now, then)) / estimate.standard_error)
    for name, found in deviations.items():
        assert 180 <= (np.abs(found) < 1.96).sum() <= 199, name
        assert abs(np.mean(found)) < 4 / math.sqrt(200), name


def test_an_estimate_is_not_counted_with() -> None:
    """Its standard error would be lost."""
    with pytest.raises(TypeError):
        _ = 1 - Estimate(0.5, 0.1)  # type: ignore[operator]


def test_what_a_sample_does_not_show_is_not_known_for_certain() -> None:
    """Where all patterns of the sample agree, others may not: the standard error is no 0."""
    now, _ = random_pair(np.random.default_rng(2))
    same, other = now.sampled(16), sampled_counts({1: 5, 2: 3}, one_in=16)
    for name, then, value in (
        ("weighted_jaccard", dataclasses.replace(same), 1.0),  # a state like it, not the same one
        ("appeared", same, 0.0),
        ("jaccard", other, 0.0),
        ("appeared", other, 1.0),
    ):
        estimate = getattr(measures, name)(same, then)
        assert estimate.value == value, name
        assert math.isnan(estimate.standard_error), name


def test_an_empty_sample_says_nothing() -> None:
    for now, then in (({}, {}), ({}, {3: 1})):
        for name in ("appeared", "vanished", "pattern_changes"):
            assert math.isnan(measure(name, sampled_counts(now), sampled_counts(then)).value), name
    nothing = measures.weighted_jaccard(sampled_counts({}), sampled_counts({}))
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.standard_error)
    assert measures.weighted_jaccard(sampled_counts({}), sampled_counts({3: 1})).value == 0.0


@pytest.mark.parametrize("name", sorted(ESTIMATED | {"net_pattern_changes"}))
def test_samples_of_different_shares_are_not_compared(name: str) -> None:
    full = pattern_counts({1: 1, 2: 3})
    for other in (full, full.sampled(8)):
        with pytest.raises(ValueError, match=r"expected the same one_in, but got 4 \(relu\) and [18] \(relu\)"):
            measure(name, full.sampled(4), other)


@pytest.mark.parametrize("slots", [1, 16, 100])
def test_a_hash_list_as_long_as_pattern_space_is_exact(slots: int) -> None:
    full = pattern_counts(dict.fromkeys(range(0, 16, 3), 1), num_channels=4)
    for name in BY_SLOTS:
        of_sample = getattr(measures, name)(full.sampled(4), slots=slots)
        assert of_sample == getattr(measures, name)(full, slots=slots), name


@pytest.mark.parametrize("slots", [1_000, 30_000, 10_000_019])
def test_a_shorter_hash_list_is_filled_as_random_keys_would(slots: int) -> None:
    full, _ = random_pair(np.random.default_rng(3))
    for name in BY_SLOTS:
        of_sample = getattr(measures, name)(full.sampled(4), slots=slots)
        assert of_sample.value == pytest.approx(getattr(measures, name)(full, slots=slots), abs=0.01), name
        assert math.isnan(of_sample.standard_error)
    with pytest.raises(ValueError, match="slots: expected a whole number"):
        measures.occupancy(full.sampled(4), slots=0)


def test_every_measure_of_the_package_stands_a_sample() -> None:
    for name in set(measures.names()) - OF_CLASSES:  # labels do not go with samples
        measures.check_sample(name, {})
