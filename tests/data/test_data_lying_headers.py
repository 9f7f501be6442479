"""Headers that say more than their files hold are refused in one line, before anything is allocated."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from reluscope.data import load
from reluscope.data.array_files import open_arrays
from reluscope.data.spec import DataSpec, num_train_images
from reluscope.data.usable import require_usable

SHAPES = {
    "(1000000000, 1, 8, 8)": "256,000,000,000 bytes, of which there can be at most",
    "(1000000000000, 1, 8, 8)": "256,000,000,000,000 bytes, of which there can be at most",
    "(4, 10000000000, 3)": "480,000,000,000 bytes, of which there can be at most",
    "(1099511627776, 1099511627776)": "bytes, of which there can be at most",
    "(100, 1, 8, 8)": r"25,600 bytes, of which there can be at most 1,000;",
    "(-5, 1, 8, 8)": r"expected \[n, ...\] with n at least 1, but got float32 \[-5, 1, 8, 8\]",
    "(True, 1, 8, 8)": "expected whole numbers as shape",
    "(2.0, 1, 8, 8)": "shape is not valid",
}


def npy(shape: str, dtype: str = "<f4") -> bytes:
    """An array file of 1,000 bytes of data that says another shape."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1_000)


def refused(path: Path, message: str) -> None:
    started = time.process_time()
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as error:
        num_train_images(DataSpec.from_config({"name": "arrays", "path": str(path)}))
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert time.process_time() - started < 1
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", SHAPES)
def test_npz(shape: str, compression: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.npz", "w", compression) as archive:
        archive.writestr("images.npy", npy(shape))
    refused(tmp_path / "images.npz", SHAPES[shape])


@pytest.mark.parametrize("shape", SHAPES)
def test_npy(shape: str, tmp_path: Path) -> None:
    (tmp_path / "images.npy").write_bytes(npy(shape))
    refused(tmp_path / "images.npy", "cannot read the arrays of")


def test_objects_are_not_read(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("images.npy", npy("(10, 1, 2, 2)", "|O"))
        (tmp_path / "a.npy").write_bytes(npy("(10, 1, 2, 2)", "|O"))
        refused(tmp_path / name, "Python objects")


def test_labels_lie_too(tmp_path: Path) -> None:
    images = io.BytesIO()
    np.save(images, np.zeros((4, 1, 8, 8), np.float32))
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images.npy", images.getvalue())
        archive.writestr("labels.npy", npy("(1000000000000,)", "<i8"))
    refused(tmp_path / "images.npz", "the header of labels says int64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shape": [10**9, 1, 8, 8]},
            r"float32 \[1000000000, 1, 8, 8\], 256,000,000,000 bytes, of which",
        ),
        ({"shape": [10**12, 1, 8, 8]}, "256,000,000,000,000 bytes"),
        ({"shape": [10**30, 1, 8, 8]}, "bytes, of which there can be at most"),
        ({"shape": [10, 10**10, 8, 8]}, "bytes, of which there can be at most"),
        ({"chunks": [0, 1, 8, 8]}, r"has chunks \[0, 1, 8, 8\] of nothing"),
        ({"chunks": [10**12, 1, 8, 8]}, "bytes, of which there can be at most"),
        ({"chunks": [-5, 1, 8, 8]}, "non-negative"),
        ({"shape": [-10, 1, 8, 8]}, "non-negative"),
    ],
)
def test_zarr(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "images.zarr"), mode="w")
    group.create_array("images", shape=(10, 1, 8, 8), chunks=(5, 1, 8, 8), dtype="f4")[:] = 1
    file = tmp_path / "images.zarr/images/zarr.json"
    metadata = json.loads(file.read_text())
    metadata["shape"] = change.get("shape", metadata["shape"])
    chunks = metadata["chunk_grid"]["configuration"]
    chunks["chunk_shape"] = change.get("chunks", chunks["chunk_shape"])
    file.write_text(json.dumps(metadata))
    refused(tmp_path / "images.zarr", message)


def test_what_compresses_well_is_no_lie(tmp_path: Path) -> None:
    """Images that are nearly all black."""
    images = np.zeros((3_000, 1, 64, 64), np.uint8)
    images[::1_000] = 200
    np.savez_compressed(tmp_path / "a.npz", images=images)
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=images.shape, chunks=(100, 1, 64, 64), dtype="u1")
    array[:] = images
    for name in ("a.npz", "a.zarr"):
        spec = DataSpec.from_config({"name": "arrays", "path": str(tmp_path / name)})
        require_usable(spec)
        assert load(spec).train.images[::1_000].unique().tolist() == [200]


def test_a_sparse_file_of_too_many_images(tmp_path: Path) -> None:
    header = npy("(2147483648, 1)", "|u1").removesuffix(bytes(1_000))
    with (tmp_path / "images.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + (1 << 31))
    assert open_arrays(tmp_path / "images.npy").images.shape == (1 << 31, 1)
    refused_of = DataSpec.from_config({"name": "arrays", "path": str(tmp_path / "images.npy")})
    with pytest.raises(ValueError, match=r"^data: expected at most 2,147,483,647 images, but there are said to be "):
        num_train_images(refused_of)
