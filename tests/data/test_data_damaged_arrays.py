"""Arrays whose files are damaged or incomplete are refused or told, in one line, and labels have bounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from reluscope.data import load
from reluscope.data.findings import findings
from reluscope.data.spec import DataSpec, require_labels
from reluscope.patterns import MOST_CLASSES

IMAGES = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)


def spec(path: Path) -> DataSpec:
    return DataSpec.from_config({"name": "arrays", "path": str(path)})


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as error:
        load(spec(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_npz_with_a_bit_that_flipped(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=IMAGES)
    content = bytearray(path.read_bytes())
    content[content.find(IMAGES.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert "images in " in refusal(path)
    assert "cannot be read: Bad CRC-32 for file 'images.npy'" in refusal(path)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "data.zarr"
    group = zarr.open_group(path, mode="w")
    group.create_array("images", data=IMAGES, chunks=(5, 1, 8, 8))
    group["labels"] = np.arange(20) % 3
    return path


def test_zarr_data_of_another_type_than_its_header_says(stored: Path) -> None:
    header = stored / "images/zarr.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "data_type": "float64"}))
    assert "images in " in refusal(stored)
    assert "cannot be read" in refusal(stored)


def test_missing_chunks_are_told(stored: Path) -> None:
    assert findings(spec(stored)) == []
    other = stored.with_name("other.zarr")
    shutil.copytree(stored, other)
    (other / "images/c/2/0/0/0").unlink()
    [line] = findings(spec(other))
    assert f"{str(other)!r} has no file for 1 of 4 chunks of images; they are read as the fill value" in line


def test_what_is_no_array_is_not_told_to_be_run(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(b"<!DOCTYPE html><html>")
    assert "allow_pickle" not in refusal(path)
    assert "it is no array of numbers, or a damaged one" in refusal(path)


@pytest.mark.parametrize("largest", [MOST_CLASSES, 1 << 40, (1 << 63) - 1])
def test_labels_beyond_all_bounds_are_no_classes(largest: int, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=IMAGES, labels=np.full(20, largest))
    with pytest.raises(ValueError, match=rf"expected labels from 0 to {MOST_CLASSES - 1}, but got {largest}$"):
        load(spec(path)).require_labels()
    with pytest.raises(ValueError, match=rf"expected labels from 0 to {MOST_CLASSES - 1}, but got {largest}$"):
        require_labels(spec(path))  # before anything runs
