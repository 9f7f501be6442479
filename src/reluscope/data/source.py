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
        labels: int64, shape [n].
        read: the images of given indices (int64 [k]) as uint8 [k, h, w, c], so that only selected ones are decoded.
    """

    labels: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set in full.

    Attributes:
        class_names: shape [classes].
        train, test: its images; `test` is None where there are none.
        statistics: (mean, std), each of shape [c] in units of 0..1; None: computed from the selected training images.
    """

    class_names: tuple[str, ...]
    train: Split
    test: Split | None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
