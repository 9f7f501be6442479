"""Fixed orders and subsets of images: the same on every machine, for every run and seed.

Every draw takes the raw 64-bit words of PCG64, which NumPy promises never to change (its permutation may).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDER_SEED = 2021
"""Seeds the order of data that lie sorted by class, so that batch k holds the same images in every run."""

SUBSET_SEED = 2022
"""Seeds the choice of `images` and `test_images`."""


def fixed_order(n: int) -> NDArray[np.int64]:
    """One fixed permutation of n images (`ORDER_SEED`).  Shape [n]."""
    return np.argsort(_random_words(ORDER_SEED, n), kind="stable")


def balanced_subset(labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Indices of n images, ascending, with as equal a share of every class as its size allows (`SUBSET_SEED`).

    The counts of two classes differ by at most one, unless the smaller class is used up. A larger n adds images to
    those of a smaller one.

    Args:
        labels: int64, shape [images].
        n: at most the number of images.
    """
    words = _random_words(SUBSET_SEED, len(labels))
    round_taken = _rank_in_class(labels, words)
    return np.sort(np.lexsort((words, round_taken))[:n])


def proportional_subset(labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Indices of n images, ascending, that hold the classes in proportion to their sizes (by Sainte-Laguë's method).

    Takes the first of each class, so shuffle before.  `labels`: int64, shape [images].
    """
    rank = _rank_in_class(labels, np.arange(len(labels), dtype=np.uint64))
    class_size = np.bincount(labels)[labels]
    return np.sort(np.argsort((rank + 0.5) / class_size, kind="stable")[:n])


def _rank_in_class(labels: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The place of every image among those of its class, from 0, by ascending word.  Shape [images]."""
    order = np.lexsort((words, labels))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return rank


def _random_words(seed: int, n: int) -> NDArray[np.uint64]:
    return np.random.PCG64(seed).random_raw(n).astype(np.uint64)
