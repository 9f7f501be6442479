"""The digits as `load` gives them: values, split, order, subsets."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from reluscope.data import Dataset, DataSpec, load


def _load(**config: Any) -> Dataset:
    return load(DataSpec.from_config({"name": "digits", **config}))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return _load()


def test_split_holds_every_digit_once(digits: Dataset) -> None:
    assert digits.test is not None
    assert (len(digits.train), len(digits.test)) == (1_500, 297)
    assert digits.train.shape == (1, 8, 8)
    assert (digits.num_classes, digits.class_names) == (10, tuple("0123456789"))

    original = load_digits()
    scaled = np.floor(original.images * 255 / 16 + 0.5).astype(np.uint8)
    expected = sorted(zip((image.tobytes() for image in scaled), original.target.tolist(), strict=True))
    images = torch.cat([digits.train.images, digits.test.images])[:, 0].contiguous().numpy()
    labels = torch.cat([digits.train.labels, digits.test.labels])
    assert sorted(zip((image.tobytes() for image in images), labels.tolist(), strict=True)) == expected


def test_split_is_stratified(digits: Dataset) -> None:
    share = np.bincount(load_digits().target) * (1_500 / 1_797)
    assert np.all(np.abs(digits.train.labels.bincount().numpy() - share) <= 1)


def test_order_is_pinned(digits: Dataset) -> None:
    """The order decides the batches, and so the counts: a change invalidates every stored result."""
    assert (
        hashlib.sha256(digits.train.labels.numpy().astype("<i8").tobytes()).hexdigest()
        == "a14d13bfd0bb9f6ffd376e52ef187949722cc00293ece1e874063e2fdd05e91a"
    )
    assert (
        hashlib.sha256(digits.train.images.contiguous().numpy().tobytes()).hexdigest()
        == "18b8a41152727b1256035ea336c28cb885fe8159ebbe1d8e81a48f13b14ac679"
    )


def test_training_images_have_mean_zero_and_standard_deviation_one(digits: Dataset) -> None:
    normalised = digits.train[:].double()
    assert abs(normalised.mean().item()) < 1e-6
    assert abs(normalised.std(correction=0).item() - 1) < 1e-6


def test_subsets_keep_the_order_and_bring_their_own_statistics(digits: Dataset) -> None:
    small = _load(images=205, test_images=41)
    assert small.test is not None
    assert sorted(small.train.labels.bincount().tolist()) == [20] * 5 + [21] * 5
    assert sorted(small.test.labels.bincount().tolist()) == [4] * 9 + [5]
    assert digits.test is not None
    for part, whole in ((small.train, digits.train), (small.test, digits.test)):
        rows = iter(whole.images.flatten(1).tolist())
        assert all(row in rows for row in part.images.flatten(1).tolist())  # a subsequence
    assert small.train.mean == pytest.approx(small.train.images.double().mean().item() / 255)
    assert torch.equal(small.train.mean, small.test.mean)


def test_more_test_images_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"data.test_images: expected at most 297, .* got 298"):
        _load(test_images=298)
    with pytest.raises(ValueError, match=r"data.images: expected at most 1500, .* got 2000"):
        _load(images=2_000)
