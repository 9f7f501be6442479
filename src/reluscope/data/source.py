"""What a data set offers before anything is selected from it: the labels, and a way to read images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """All training or all test images, in their full fixed order.

    Attributes:
        size: how many there are, n.
        labels: int64, shape [n]; None where the data have none.
        read: the images of given indices (int64 [k]), so that only selected ones are decoded: uint8 [k, h, w, c], which
            are normalised later, or float32 or int64 [k, ...], which are taken as they are.
    """

    size: int
    labels: NDArray[np.int64] | None
    read: Callable[[NDArray[np.int64]], NDArray]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set in full.

    Attributes:
        class_names: shape [classes]; empty without labels.
        train, test: its images; `test` is None where there are none.
        statistics: (mean, std), each of shape [c] in units of 0..1; None: computed from the selected training images.
        in_parts: whether parts can be read without the rest.
        unusable: why there are no labels although the data have some; None where that is not so.
    """

    class_names: tuple[str, ...]
    train: Split
    test: Split | None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    in_parts: bool = True
    unusable: str | None = None
