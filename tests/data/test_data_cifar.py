"""CIFAR from a tiny copy in torchvision's on-disk format; the published checksums are replaced by the copy's own."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reluscope.data import Dataset, DataSpec, load
from reluscope.data.cifar import CIFAR10_MEAN, CIFAR10_STD
from reluscope.guarded_torchvision import torchvision


def _write_copy(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Write 5 x 8 (CIFAR-10) or 8 (CIFAR-100) training and 6 test images; returns the training pixels and labels."""
    dataset = getattr(torchvision.datasets, name.upper())
    folder = root / dataset.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(file: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / file).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    label_key = "labels" if name == "cifar10" else "fine_labels"
    written: dict[str, list[Any]] = {"train_list": [], "test_list": []}
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for part, n in (("train_list", 8), ("test_list", 6)):
        for file, _ in getattr(dataset, part):
            content: dict[str, Any] = {
                "data": rng.integers(0, 256, (n, 3 * 32 * 32), dtype=np.uint8),
                label_key: (np.arange(n) % 4).tolist(),
            }
            written[part].append([file, write(file, content)])
            if part == "train_list":
                pixels.append(content["data"])
                labels += content[label_key]
        monkeypatch.setattr(dataset, part, written[part])
    names = [f"class {i}" for i in range(4)]
    checksum = write(dataset.meta["filename"], {dataset.meta["key"]: names})
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": checksum})
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), np.array(labels)


def _refuse_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)


def _load(name: str, root: Path, **config: Any) -> Dataset:
    return load(DataSpec.from_config({"name": name, "path": str(root), **config}))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_images_and_labels_in_file_order(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = _write_copy(tmp_path, name, monkeypatch)
    dataset = _load(name, tmp_path)
    assert dataset.test is not None
    assert len(dataset.test) == 6
    np.testing.assert_array_equal(dataset.train.images.numpy(), pixels)
    np.testing.assert_array_equal(dataset.train.labels.numpy(), labels)
    assert dataset.train.images.is_contiguous(memory_format=torch.channels_last)
    assert (dataset.train.images.dtype, dataset.train.labels.dtype) == (torch.uint8, torch.int64)
    assert dataset.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_cifar10_has_the_papers_statistics_whatever_is_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_copy(tmp_path, "cifar10", monkeypatch)
    train = _load("cifar10", tmp_path, images=8).train
    assert torch.equal(train.mean, torch.tensor(CIFAR10_MEAN))
    assert torch.equal(train.std, torch.tensor(CIFAR10_STD))
    assert train.labels.bincount().tolist() == [2, 2, 2, 2]


def test_cifar100_statistics_are_its_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = _write_copy(tmp_path, "cifar100", monkeypatch)
    train = _load("cifar100", tmp_path).train
    np.testing.assert_allclose(train.mean.numpy(), pixels.mean(axis=(0, 2, 3)) / 255, rtol=1e-6)
    np.testing.assert_allclose(train.std.numpy(), pixels.std(axis=(0, 2, 3)) / 255, rtol=1e-6)


@pytest.mark.parametrize("damage", ["missing folder", "missing file", "damaged file"])
def test_incomplete_data_without_a_network(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_download(monkeypatch)
    root = tmp_path / "data"
    if damage != "missing folder":
        root.mkdir()
        _write_copy(root, "cifar10", monkeypatch)
        batch = root / "cifar-10-batches-py" / "test_batch"
        batch.unlink() if damage == "missing file" else batch.write_bytes(batch.read_bytes()[:100])
    with pytest.raises(FileNotFoundError, match=r"data.path: .* download failed \(no network\); put https://") as error:
        _load("cifar10", root)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_data_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(url: str, root: Path, **_: Any) -> None:
        calls.append(url)
        _write_copy(Path(root), "cifar10", monkeypatch)

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", download)
    for _ in range(2):
        assert len(_load("cifar10", tmp_path / "new" / "data").train) == 40
    assert calls == [torchvision.datasets.CIFAR10.url]
