"""Digests of images: what they tell apart, and that nothing compares stores of different images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reluscope.data import DataSpec, load
from reluscope.data.digest import ATTRIBUTE, digest_of, require_same_data
from reluscope.stores import StoreError

IMAGES = torch.arange(3000 * 4, dtype=torch.float32).reshape(3000, 1, 2, 2)


def test_the_same_images_have_one_digest_however_they_are_held(tmp_path: Path) -> None:
    digest = digest_of(IMAGES)
    assert len(digest) == 16
    assert digest_of(IMAGES.clone()) == digest
    assert digest_of(IMAGES.contiguous(memory_format=torch.channels_last)) == digest

    pixels = np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels)
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x/images.npy", pixels)
    held = load(DataSpec.from_config({"name": "arrays", "path": str(tmp_path / "x.npz")})).train
    streamed = load(DataSpec.from_config({"name": "arrays", "path": str(tmp_path / "x"), "stream": True})).train
    assert digest_of(streamed) == digest_of(held) == digest_of(held[0:400])


@pytest.mark.parametrize(
    "others",
    [
        IMAGES.flip(0),
        IMAGES[torch.randperm(3000, generator=torch.Generator().manual_seed(0))],
        IMAGES.roll(1, 0),
        IMAGES[:2999],
        IMAGES[1:],
        IMAGES.reshape(3000, 1, 1, 4),
        IMAGES.double(),
        IMAGES + 0.001,
        IMAGES[:0],
        IMAGES.mT,
    ],
    ids=["reversed", "shuffled", "moved", "shorter", "later", "shape", "dtype", "normalised", "none", "transposed"],
)
def test_other_images_have_another(others: torch.Tensor) -> None:
    assert digest_of(others) != digest_of(IMAGES)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 255, 256])
def test_every_image_of_a_few_counts(size: int) -> None:
    images = IMAGES[:size]
    digests = {digest_of(images)}
    for index in range(size):
        changed = images.clone()
        changed[index, 0, 1, 1] += 1
        digests.add(digest_of(changed))
    assert len(digests) == size + 1


def test_slices_must_be_tensors() -> None:
    with pytest.raises(TypeError, match=r"^images: expected slices to be tensors, but got ndarray$"):
        digest_of(IMAGES.numpy())


def test_stores_that_do_not_tell_are_taken() -> None:
    require_same_data({})
    require_same_data({"a": {}, "b": {ATTRIBUTE: "1"}, "c": {ATTRIBUTE: "1"}, "d": {ATTRIBUTE: None}})
    with pytest.raises(StoreError) as error:
        require_same_data({"a": {}, "b": {ATTRIBUTE: "1"}, "c": {ATTRIBUTE: "2"}})
    assert str(error.value) == (
        "c was made of other training images, or of the same in another order, than b (data_digest 2 and 1), and "
        "cannot be compared with it"
    )
