"""Streamed images against the same ones in memory: bit for bit, in batches, statistics, counts and trainings."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch import nn

from reluscope import count_patterns
from reluscope.checkpoints import open_weights
from reluscope.data import DataSpec, ImageSet, load, loading
from reluscope.data.streaming import StreamedImages
from reluscope.networks import build_network
from reluscope.training import loop
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
TOKENS = np.random.default_rng(1).integers(0, 9, (50, 6))


def _images_npy(root: Path) -> dict[str, Any]:
    (root / "arrays").mkdir()
    np.save(root / "arrays/images.npy", PIXELS)
    np.save(root / "arrays/labels.npy", np.arange(50) % 2)
    return {"name": "arrays", "path": str(root / "arrays")}


def _floats_zarr(root: Path) -> dict[str, Any]:
    path = str(root / "floats.zarr")
    array = zarr.create_array(path, shape=(50, 3, 8, 8), chunks=(16, 2, 8, 8), dtype="f4")
    array[...] = np.moveaxis(PIXELS, 3, 1) / np.float32(255) - np.float32(0.5)
    return {"name": "arrays", "path": path}


def _folder(root: Path) -> dict[str, Any]:
    for i, image in enumerate(PIXELS):
        file = root / "tree" / "ab"[i % 2] / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((8 + i % 3, 9)).save(file)
    return {"name": "imagefolder", "path": str(root / "tree"), "resize": [8, 8]}


SETS = {"npy": _images_npy, "zarr": _floats_zarr, "imagefolder": _folder}


@pytest.fixture(params=SETS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ImageSet, ImageSet]:
    """The same training images, in memory and streamed."""
    config = SETS[request.param](tmp_path) | {"images": 43}
    held, streamed = (load(DataSpec.from_config(config | {"stream": stream})).train for stream in (False, True))
    assert isinstance(held.images, torch.Tensor)
    assert isinstance(streamed.images, StreamedImages)
    return held, streamed


def test_counts_are_the_same(both: tuple[ImageSet, ImageSet]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    for held, streamed in zip(*(count_patterns(network, images, batch_size=16) for images in both), strict=True):
        np.testing.assert_array_equal(held.keys, streamed.keys)
        np.testing.assert_array_equal(held.counts, streamed.counts)


@pytest.mark.parametrize(
    "index", [slice(0, 16), slice(16, 32), slice(32, 48), slice(5, 6), torch.tensor([40, 0, 0, 7])]
)
def test_batches_are_the_same(both: tuple[ImageSet, ImageSet], index: slice | torch.Tensor) -> None:
    held, streamed = both
    assert (len(held), held.shape) == (len(streamed), streamed.shape)
    for _ in range(2):  # again, after reading ahead
        assert torch.equal(held[index], streamed[index])
        assert torch.equal(held.take(index), streamed.take(index))
        assert held[index].stride() == streamed[index].stride()
    assert str(streamed.to("meta")[index].device) == "meta"


def test_token_ids_are_streamed(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", TOKENS)
    train = load(DataSpec.from_config({"name": "arrays", "path": str(tmp_path / "tokens.npy"), "stream": True})).train
    assert torch.equal(train[7:29], torch.from_numpy(TOKENS[7:29]))


@pytest.mark.parametrize("augmentation", [{}, {"flip": True, "crop_padding": 2}], ids=["plain", "augmented"])
def test_trainings_are_the_same(augmentation: dict[str, Any], tmp_path: Path) -> None:
    config = _images_npy(tmp_path) | {"augmentation": augmentation}
    last = []
    for stream in (False, True):
        data = DataSpec.from_config(config | {"stream": stream})
        method = method_from_config("stepwise", {"epochs": 2, "batch_size": 16})
        store = tmp_path / f"{stream}.zarr"
        loop.train(TrainingSpec({"name": "resnet8"}, data, method, seed=0), store.with_suffix(".partial"), store)
        network = build_network(in_channels=3, num_classes=2, name="resnet8")
        open_weights(store).load_into(network, 8)
        last.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.equal(*last)


def test_training_without_labels_is_refused(tmp_path: Path) -> None:
    data = DataSpec.from_config(_floats_zarr(tmp_path))
    training = TrainingSpec({"name": "resnet8"}, data, method_from_config("stepwise", {}), seed=0)
    with pytest.raises(ValueError, match=r"^data: expected labels to train on"):
        loop.train(training, tmp_path / "x.partial", tmp_path / "x.zarr")


def test_what_is_large_is_streamed_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec.from_config(_images_npy(tmp_path))
    monkeypatch.setattr(loading, "STREAMED_ABOVE", PIXELS.nbytes)
    assert isinstance(load(spec).train.images, torch.Tensor)
    monkeypatch.setattr(loading, "STREAMED_ABOVE", PIXELS.nbytes - 1)
    assert isinstance(load(spec).train.images, StreamedImages)
    np.savez(tmp_path / "whole.npz", images=PIXELS)
    whole = load(DataSpec.from_config({"name": "arrays", "path": str(tmp_path / "whole.npz")})).train
    assert isinstance(whole.images, torch.Tensor)  # it cannot be read in part


def test_statistics_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec.from_config(_images_npy(tmp_path) | {"stream": True})
    whole = load(spec).train
    monkeypatch.setattr(loading, "_BLOCK_BYTES", 3 * PIXELS[0].nbytes)
    blocks = load(spec).train
    assert torch.equal(whole.mean, blocks.mean)
    assert torch.equal(whole.std, blocks.std)
    np.testing.assert_allclose(blocks.std.numpy(), PIXELS.std(axis=(0, 1, 2)) / 255, rtol=1e-6)


def test_the_next_batch_is_read_ahead_and_by_one_thread() -> None:
    read: list[tuple[list[int], int]] = []
    three = threading.Semaphore(0)

    def reader(indices: np.ndarray) -> np.ndarray:
        read.append((indices.tolist(), threading.get_ident()))
        three.release()
        return indices[:, None].astype(np.float32)

    images = StreamedImages(reader, 10)
    assert images[0:4][:, 0].tolist() == [0, 1, 2, 3]
    for _ in range(3):
        assert three.acquire(
            timeout=10
        )  # the first item, for its shape; the batch; the next one, before it is asked for
    assert [indices for indices, _ in read] == [[0], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert images[4:8][:, 0].tolist() == [4, 5, 6, 7]
    assert images[8:12][:, 0].tolist() == [8, 9]
    assert [indices for indices, _ in read] == [[0], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len({thread for _, thread in read} | {threading.get_ident()}) == 2


def test_an_error_while_reading_ahead_is_raised_where_its_batch_is_asked_for() -> None:
    def reader(indices: np.ndarray) -> np.ndarray:
        if 5 in indices:
            raise ValueError("item 5 is damaged")
        return np.zeros((len(indices), 2), np.float32)

    images = StreamedImages(reader, 8)
    assert len(images[0:4]) == 4
    with pytest.raises(ValueError, match="item 5 is damaged"):
        _ = images[4:8]
