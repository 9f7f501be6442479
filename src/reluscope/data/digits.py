"""scikit-learn's handwritten digits: 1,797 grey 8 x 8 images, small enough for a study within minutes."""

from __future__ import annotations

import numpy as np

from reluscope.data.selection import fixed_order, proportional_subset
from reluscope.data.source import Source, Split
from reluscope.data.spec import TRAIN_IMAGES, DataSpec


def digits_source(spec: DataSpec) -> Source:
    """A fixed stratified split into 1,500 training and 297 test images, in a fixed shuffled order.

    scikit-learn's values 0..16 become 0..255, rounded to the nearest.
    """
    from sklearn.datasets import load_digits  # here, because it takes a second that no other data need wait

    digits = load_digits()
    order = fixed_order(len(digits.target))
    labels = digits.target[order].astype(np.int64)
    images = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)[..., None]  # (n, 8, 8, 1)

    is_train = np.zeros(len(labels), dtype=bool)
    is_train[proportional_subset(labels, TRAIN_IMAGES[spec.name])] = True
    return Source(
        class_names=tuple(str(name) for name in digits.target_names),
        train=Split(int(is_train.sum()), labels[is_train], images[is_train].__getitem__),
        test=Split(int((~is_train).sum()), labels[~is_train], images[~is_train].__getitem__),
    )
