"""Measures of patterns and classes, against hand-computed cases, scikit-learn, SciPy and plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from reluscope import measures
from reluscope.patterns import ClassCounts, PatternCounts, entropy_of

ONE_VALUE = [
    *("joint_entropy", "conditional_entropy", "mutual_information", "mutual_information_share"),
    *("patterns_of_one_class", "weighted_jaccard_between_classes"),
]


def of_table(table: NDArray[np.int64]) -> PatternCounts:
    """The counts of a table [pattern, class]; each row has at least one."""
    rows, columns = np.nonzero(table)
    sizes = np.bincount(rows, minlength=len(table)).astype(np.uint8)
    classes = ClassCounts(table.shape[1], sizes, columns.astype(np.uint8), table[rows, columns])
    return PatternCounts("relu", np.arange(len(table), dtype=np.uint32), table.sum(axis=1), 20, classes=classes)


def measure(name: str, table: NDArray[np.int64] | list[list[int]], **given: float):
    counts = of_table(np.array(table))
    return getattr(measures, name)(counts, counts.classes, **given)


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.int64]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = random.integers(0, draw(st.sampled_from([2, 5, 100])), (draw(st.integers(1, 30)), draw(st.integers(1, 6))))
    table[0, 0] += 1
    return table[table.any(axis=1)]


def test_the_class_decides_the_pattern() -> None:
    """Two classes, each with a pattern of its own."""
    values = {name: measure(name, [[4, 0], [0, 4]]) for name in ONE_VALUE}
    assert values == {
        "joint_entropy": 1.0,
        "conditional_entropy": 0.0,
        "mutual_information": 1.0,
        "mutual_information_share": 1.0,
        "patterns_of_one_class": 1.0,
        "weighted_jaccard_between_classes": 0.0,
    }
    assert measure("weighted_jaccard_to_other_classes", [[4, 0], [0, 4]]).tolist() == [0, 0]
    assert measure("entropy_of_each_class", [[4, 0], [0, 4]]).tolist() == [0, 0]


def test_the_class_says_nothing_of_the_pattern() -> None:
    values = {name: measure(name, [[2, 4], [2, 4]]) for name in ONE_VALUE}
    of_classes = math.log2(3) - 2 / 3
    assert values == pytest.approx(
        {
            "joint_entropy": 1 + of_classes,
            "conditional_entropy": 1.0,
            "mutual_information": 0.0,
            "mutual_information_share": 0.0,
            "patterns_of_one_class": 0.0,
            "weighted_jaccard_between_classes": 1.0,
        }
    )
    assert measure("weighted_jaccard_to_other_classes", [[2, 4], [2, 4]]).tolist() == [1, 1]


def test_hand_computed() -> None:
    """Joint probabilities 1/4, 1/4 and 1/2: H(A, L) is 1.5, H(L) is 1, and H(A) is 3/4 log2(4/3) + 1/4 log2(4)."""
    table = [[1, 2], [1, 0]]
    of_patterns = 0.75 * math.log2(4 / 3) + 0.5
    assert measure("joint_entropy", table) == pytest.approx(1.5)
    assert measure("conditional_entropy", table) == pytest.approx(0.5)
    assert measure("mutual_information", table) == pytest.approx(of_patterns - 0.5)
    assert measure("mutual_information_share", table) == pytest.approx(of_patterns - 0.5)
    assert measure("mutual_information_of_shuffled_labels", table, shuffled_joint_entropy=1.75) == pytest.approx(
        of_patterns + 1 - 1.75
    )
    assert measure("entropy_of_each_class", table).tolist() == [1, 0]
    assert measure("patterns_of_one_class", table) == 0.5
    # shares (1/2, 1/2) and (1, 0): minima 1/2, maxima 3/2
    assert measure("weighted_jaccard_between_classes", table) == pytest.approx(1 / 3)
    assert measure("weighted_jaccard_to_other_classes", table) == pytest.approx([1 / 3, 1 / 3])


def test_one_class_and_classes_without_images() -> None:
    assert measure("mutual_information", [[3], [1]]) == 0
    assert math.isnan(measure("mutual_information_share", [[3], [1]]))
    assert math.isnan(measure("weighted_jaccard_between_classes", [[3], [1]]))
    assert np.isnan(measure("weighted_jaccard_to_other_classes", [[3], [1]])).tolist() == [True]
    assert np.isnan(measure("weighted_jaccard_to_other_classes", [[3, 0, 1]])).tolist() == [False, True, False]
    assert np.isnan(measure("entropy_of_each_class", [[3, 0, 1]])).tolist() == [False, True, False]
    assert measure("weighted_jaccard_between_classes", [[1, 0, 2], [1, 0, 2]]) == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(tables())
def test_agree_with_scikit_learn_and_scipy(table: NDArray[np.int64]) -> None:
    rows, columns = np.nonzero(table)
    patterns, labels = (np.repeat(where, table[rows, columns]) for where in (rows, columns))
    assert measure("mutual_information", table) == pytest.approx(
        max(mutual_info_score(labels, patterns), 0) / math.log(2), abs=1e-9
    )
    assert measure("joint_entropy", table) == pytest.approx(scipy_entropy(table.ravel(), base=2), abs=1e-9)
    of_each = measure("entropy_of_each_class", table)
    for label, of_class in enumerate(of_each):
        if table[:, label].any():
            assert of_class == pytest.approx(scipy_entropy(table[:, label], base=2), abs=1e-9)
    weights = table.sum(axis=0) / table.sum()
    assert measure("conditional_entropy", table) == pytest.approx(np.nansum(weights * of_each), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables())
def test_keep_their_bounds(table: NDArray[np.int64]) -> None:
    of_patterns, of_classes = (scipy_entropy(table.sum(axis=axis), base=2) for axis in (1, 0))
    information, joint = measure("mutual_information", table), measure("joint_entropy", table)
    slack = 1e-9
    assert 0 <= information <= min(of_patterns, of_classes) + slack
    assert 0 <= measure("conditional_entropy", table) <= of_patterns + slack
    assert max(of_patterns, of_classes) - slack <= joint <= of_patterns + of_classes + slack
    assert information == pytest.approx(of_patterns - measure("conditional_entropy", table), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables())
def test_similarities_agree_with_dense_sums(table: NDArray[np.int64]) -> None:
    present = np.flatnonzero(table.any(axis=0))
    shares = table / np.maximum(table.sum(axis=0), 1)
    pairs = [(a, b) for a in present for b in present if a < b]
    if pairs:
        minima = sum(np.minimum(shares[:, a], shares[:, b]).sum() for a, b in pairs)
        maxima = sum(np.maximum(shares[:, a], shares[:, b]).sum() for a, b in pairs)
        assert measure("weighted_jaccard_between_classes", table) == pytest.approx(minima / maxima)
        for label in present:
            rest = np.delete(table, label, axis=1).sum(axis=1)
            rest = rest / rest.sum()
            expected = np.minimum(shares[:, label], rest).sum() / np.maximum(shares[:, label], rest).sum()
            assert measure("weighted_jaccard_to_other_classes", table)[label] == pytest.approx(expected)
    assert measure("patterns_of_one_class", table) == ((table > 0).sum(axis=1) == 1).mean()


def test_a_pattern_for_each_position_names_every_class() -> None:
    """Why shuffled labels are counted too: with patterns that occur once, any labels are told."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(1000) % 10)
    table = np.zeros((1000, 10), np.int64)
    table[np.arange(1000), labels] = 1
    assert measure("mutual_information_share", table) == pytest.approx(1)
    assert measure("mutual_information_of_shuffled_labels", table, shuffled_joint_entropy=math.log2(1000)) == (
        pytest.approx(math.log2(10))
    )


@settings(deadline=None, max_examples=100)
@given(tables())
def test_the_bounds_hold_to_the_last_bit(table: NDArray[np.int64]) -> None:
    table = table.repeat(3, axis=0)
    of_patterns = of_table(table).entropy
    assert measure("conditional_entropy", table) <= of_patterns
    assert 0 <= measure("mutual_information", table) <= of_patterns
    for name in ("mutual_information_share", "weighted_jaccard_between_classes"):
        assert not measure(name, table) > 1  # or NaN
    assert not (measure("weighted_jaccard_to_other_classes", table) > 1).any()


@pytest.mark.parametrize("table", [[[1, 1, 0], [0, 0, 1]], [[1, 0], [1, 0], [0, 1]]])
def test_information_exceeds_neither_entropy(table: list[list[int]]) -> None:
    """One of which is all of it, log2(3) - 2/3 bits; H(A) + H(L) - H(A, L) rounds above it."""
    counts = of_table(np.array(table))
    entropies = [counts.entropy, entropy_of(np.array(table).sum(axis=0))]
    assert sum(entropies) - measure("joint_entropy", table) > min(entropies)
    assert measure("mutual_information", table) == min(entropies) == pytest.approx(math.log2(3) - 2 / 3)


def test_the_order_of_counts_does_not_matter() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        counts = random.integers(1, 10**7, 10_000)
        assert entropy_of(counts) == entropy_of(random.permutation(counts))


def test_a_pattern_that_names_its_class_says_no_more_than_the_class() -> None:
    """Where the sums are rounded, H(A) + H(L) - H(A, L) may exceed H(L)."""
    random = np.random.default_rng(0)
    for _ in range(200):
        counts = of_table(np.diag(random.integers(1, 1000, random.integers(2, 40))))
        assert measures.mutual_information(counts, counts.classes) <= counts.entropy


def test_they_are_refused_without_classes() -> None:
    names = [name for name in measures.names() if measures.needs(name) & measures.OF_CLASSES]
    assert len(names) == 9
    for name in names:
        with pytest.raises(ValueError, match=r"^needs counting.labels: (true|shuffled)$"):
            measures.check_labels(name, False)
        with pytest.raises(ValueError, match=r"^does not go with counting.sample, which keeps no counts per class$"):
            measures.check_sample(name, {})
        measures.check_labels(name, "shuffled")
    with pytest.raises(ValueError, match=r"^needs counting.labels: shuffled$"):
        measures.check_labels("mutual_information_of_shuffled_labels", True)
    measures.check_labels("entropy", False)


def test_a_measure_may_look_at_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    def entropy_of_each_class(counts: PatternCounts, classes: ClassCounts) -> NDArray[np.float64]:
        return np.array([counts.of_class(label).entropy for label in range(classes.num_classes)])

    monkeypatch.setattr("reluscope.measures._discovery.load_function", lambda name: entropy_of_each_class)
    assert measures.is_per_class("entropy_of_each_class", {})


def test_which_have_a_value_a_class() -> None:
    per_class = {name for name in measures.names() if measures.is_per_class(name, {})}
    assert per_class == {"entropy_of_each_class", "weighted_jaccard_to_other_classes"}
    assert measures.needs("mutual_information") == {"classes"}
    assert measures.needs("mutual_information_of_shuffled_labels") == {"classes", "shuffled_joint_entropy"}
