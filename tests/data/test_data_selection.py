"""Fixed orders and subsets: balance, proportion, nesting, and that they never drift."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reluscope.data.selection import balanced_subset, fixed_order, proportional_subset

labels_and_size = st.lists(st.integers(0, 4), min_size=1, max_size=60).flatmap(
    lambda labels: st.tuples(st.just(np.array(labels, dtype=np.int64)), st.integers(1, len(labels)))
)


def test_fixed_order_is_pinned() -> None:
    """The order decides the batches, and so the counts: a change invalidates every stored result."""
    assert fixed_order(10).tolist() == [5, 6, 8, 3, 7, 2, 4, 9, 0, 1]
    assert np.array_equal(np.sort(fixed_order(5_000)), np.arange(5_000))


def test_balanced_subset_is_pinned() -> None:
    labels = np.arange(30) % 3
    assert balanced_subset(labels, 7).tolist() == [3, 7, 21, 25, 26, 28, 29]


@given(labels_and_size)
def test_balanced_subset_is_ascending_and_as_equal_as_the_classes_allow(case: tuple[np.ndarray, int]) -> None:
    labels, n = case
    chosen = balanced_subset(labels, n)
    assert len(chosen) == n
    assert np.all(np.diff(chosen) > 0)
    taken, size = np.bincount(labels[chosen], minlength=5), np.bincount(labels, minlength=5)
    assert np.all(taken[taken < size] >= taken.max() - 1)  # a class that has images left is at most one behind


@given(labels_and_size)
def test_a_larger_subset_holds_the_smaller_one(case: tuple[np.ndarray, int]) -> None:
    labels, n = case
    assert set(balanced_subset(labels, n)) <= set(balanced_subset(labels, min(n + 3, len(labels))))


def test_balanced_subset_does_not_merely_take_the_first() -> None:
    labels = np.repeat([0, 1], 1_000)
    chosen = balanced_subset(labels, 200)
    assert 350 < chosen[labels[chosen] == 0].mean() < 650  # uniform over 0..999: 500 with a standard error of 28


@given(labels_and_size)
def test_proportional_subset_gives_the_next_image_to_the_most_underrepresented(case: tuple[np.ndarray, int]) -> None:
    """Sainte-Laguë: no class would be owed an image, by size / (2 * taken + 1), before one that another class got."""
    labels, n = case
    chosen = proportional_subset(labels, n)
    assert len(chosen) == n
    assert np.all(np.diff(chosen) > 0)
    taken, size = np.bincount(labels[chosen], minlength=5), np.bincount(labels, minlength=5)
    last_granted = min(size[k] / (2 * taken[k] - 1) for k in range(5) if taken[k])
    next_in_line = max((size[k] / (2 * taken[k] + 1) for k in range(5) if taken[k] < size[k]), default=0)
    assert last_granted >= next_in_line - 1e-9


def test_all_images_in_order_where_all_are_asked_for() -> None:
    labels = fixed_order(50) % 7
    assert np.array_equal(balanced_subset(labels, 50), np.arange(50))
    assert np.array_equal(proportional_subset(labels, 50), np.arange(50))
