"""scikit-learn's handwritten digits: 1,797 grey 8 x 8 images, small enough for a study within minutes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from reluscope.data.selection import fixed_order, proportional_subset
from reluscope.data.source import Source, Split
from reluscope.data.spec import TRAIN_IMAGES, DataSpec


def digits_source(spec: DataSpec) -> Source:
    """A fixed stratified split into 1,500 training and 297 test images, in a fixed shuffled order.

    scikit-learn's values 0..16 become 0..255, rounded to the nearest.
    """
    rows = np.loadtxt(_file(), np.int64, delimiter=",")  # 64 values of an image, then its label
    rows = rows[fixed_order(len(rows))]
    labels = rows[:, -1]
    images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)

    is_train = np.zeros(len(labels), dtype=bool)
    is_train[proportional_subset(labels, TRAIN_IMAGES[spec.name])] = True
    return Source(
        class_names=tuple(str(digit) for digit in range(10)),
        train=Split(labels[is_train], images[is_train].__getitem__),
        test=Split(labels[~is_train], images[~is_train].__getitem__),
    )


def _file() -> Path:
    """Where `sklearn.datasets.load_digits` reads them from; importing scikit-learn takes longer than a small job."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the digits come with scikit-learn, which is not installed: pip install scikit-learn")
    return Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
