"""scikit-learn's handwritten digits: 1,797 grey 8 x 8 images, small enough for a study within minutes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reluscope.data.selection import fixed_order, proportional_subset
from reluscope.data.source import Source, Split
from reluscope.data.spec import TRAIN_IMAGES, DataSpec


def digits_source(spec: DataSpec) -> Source:
    """A fixed stratified split into 1,500 training and 297 test images, in a fixed shuffled order.

    scikit-learn's values 0..16 become 0..255, rounded to the nearest.
    """
    values, labels = _read()
    order = fixed_order(len(labels))
    labels = labels[order]
    images = np.rint(values[order] * (255 / 16)).astype(np.uint8)[..., None]  # (n, 8, 8, 1)

    is_train = np.zeros(len(labels), dtype=bool)
    is_train[proportional_subset(labels, TRAIN_IMAGES[spec.name])] = True
    return Source(
        class_names=tuple(str(digit) for digit in range(10)),
        train=Split(int(is_train.sum()), labels[is_train], images[is_train].__getitem__),
        test=Split(int((~is_train).sum()), labels[~is_train], images[~is_train].__getitem__),
    )


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values 0..16 [n, 8, 8] and labels [n], in scikit-learn's order.

    Of the file that comes with scikit-learn, whose own function costs every job more than a second of imports.
    """
    [package] = importlib.util.find_spec("sklearn").submodule_search_locations or []  # type: ignore[union-attr]
    rows = np.loadtxt(Path(package) / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
