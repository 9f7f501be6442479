"""Arrays on disk: ``.npz``, ``.npy``, a folder of ``.npy`` files, Zarr.  Opening reads headers only.  No torch."""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reluscope.patterns import MOST_CLASSES

NAMES = ("images", "labels", "test_images", "test_labels")
"""What arrays are called in a .npz, a folder and a Zarr group; all but the first may be missing."""

_EXPECTED = (
    "expected a .npz, a .npy, a folder with images.npy, a Zarr group with the array images (each with labels, "
    "test_images and test_labels where there are any), or a Zarr array"
)
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")

_DIGESTED_BLOCKS, _DIGESTED_BYTES = 64, 1 << 20

_DEFLATED = 1032
"""Times that deflate makes data smaller at the most."""

_COMPRESSED = 1000
"""Times that the files of a Zarr array may be smaller than what they hold; chunks of nothing but zeros are not stored,
but few images are."""

_SMALL = 1 << 30  # bytes that are not looked at so
_LONGEST = 300  # characters of another's message


class StoredArray(Protocol):
    """An array that is read in parts."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        """The rows of given indices, int64 [k]."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayData:
    """The arrays of a data set, in the order in which they are stored.

    Attributes:
        images, test_images: [n, ...].
        labels, test_labels: integers, [n]; both or neither where there are test images.
        unusable: why there are no labels although an array is called so; None where that is not so.
        in_parts: whether parts can be read without the rest.
    """

    images: StoredArray
    labels: StoredArray | None
    test_images: StoredArray | None
    test_labels: StoredArray | None
    in_parts: bool
    unusable: str | None = None


def open_arrays(path: Path) -> ArrayData:
    """The arrays at `path`, their headers read and held against each other.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: something else, unreadable, without images, or arrays that do not fit together.
    """
    if not path.exists():
        raise FileNotFoundError(f"data.path: no file or folder {str(path)!r} in {Path.cwd()}; {_EXPECTED}")
    try:
        arrays = _found(path)
    except Exception as error:  # a damaged header raises many kinds
        reason = " ".join(str(error).split())[:_LONGEST]
        if "allow_pickle" in reason:  # NumPy takes all that it does not know for pickled, and says how to run it
            reason = "it is no array of numbers, or a damaged one"
        raise ValueError(f"data.path: cannot read the arrays of {str(path)!r}: {reason}; {_EXPECTED}") from error
    if "images" not in arrays:
        names = ", ".join(sorted(arrays)) or "none"
        raise ValueError(f"data.path: no array 'images' in {str(path)!r}, which holds {names}; {_EXPECTED}")
    labels, test_images, test_labels = (arrays.get(name) for name in NAMES[1:])
    data = ArrayData(arrays["images"], labels, test_images, test_labels, in_parts=path.suffix != ".npz")
    _check(data, path)
    try:
        _check_labels(data, path)
    except ValueError as error:  # who needs labels is told
        return replace(data, labels=None, test_labels=None, unusable=str(error))
    return data


def holds_arrays(path: Path) -> bool:
    """Whether what lies there are arrays, by the look of it, and not a folder of images."""
    return path.is_file() or _is_zarr(path) or any(path.glob("*.npy"))


def require_classes(key: str, labels: Iterable[NDArray]) -> None:
    """Refuse labels that do not number classes from 0.

    Raises:
        ValueError: there are such.
    """
    for each in labels:
        if each.min() < 0:
            raise ValueError(f"{key}: expected labels that number the classes from 0, but got {each.min()}")
        if each.max() >= MOST_CLASSES:
            raise ValueError(f"{key}: expected labels from 0 to {MOST_CLASSES - 1}, but got {each.max()}")


def findings(path: Path) -> list[str]:
    """What is worth telling of the arrays at `path`, a line each: Zarr reads chunks that no file holds as one value.

    Raises:
        FileNotFoundError, ValueError: as `open_arrays`.
    """
    if not _is_zarr(path):
        return []
    data, lines = open_arrays(path), []
    for name in NAMES:
        array = getattr(data, name)
        if isinstance(array, _Chunked) and (missing := array.missing)[0]:
            lines.append(
                f"{str(path)!r} has no file for {missing[0]:,} of {missing[1]:,} chunks of {name}; they are read as "
                "the fill value of the array, which is right only if nothing else was written there"
            )
    return lines


def content_digest(path: Path) -> str:
    """Tells contents apart without reading all: names and sizes of all files, and 64 blocks of 1 MiB, evenly spaced.

    What takes up to 64 MiB in all is read in full.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    sizes = [file.stat().st_size for file in files]
    ends = list(itertools.accumulate(sizes))
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.relative_to(path)} {size}\n".encode())
    blocks = min(_DIGESTED_BLOCKS, -(-ends[-1] // _DIGESTED_BYTES))
    for start in np.linspace(0, max(ends[-1] - _DIGESTED_BYTES, 0), blocks, dtype=np.int64).tolist():
        stop = min(start + _DIGESTED_BYTES, ends[-1])
        while start < stop:  # through as many files as the block takes
            number = bisect.bisect_right(ends, start)
            with files[number].open("rb") as opened:
                opened.seek(start - (ends[number] - sizes[number]))
                digest.update(opened.read(stop - start))
            start = ends[number]
    return digest.hexdigest()[:16]


def _found(path: Path) -> Mapping[str, StoredArray]:
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            return {name: _Zipped.of(path, archive, name) for name in names}
    if path.is_file():
        return {"images": _Mapped.of(path)}
    if _is_zarr(path):
        import zarr  # here, because it takes half a second that no other data need wait

        found = zarr.open(str(path), mode="r")
        if isinstance(found, zarr.Array):
            return {"images": _Chunked(found, path)}
        return _ours({name: partial(_Chunked, array, path / name) for name, array in found.arrays()})
    return _ours({file.stem: partial(_Mapped.of, file) for file in path.glob("*.npy")})


def _ours(found: Mapping[str, Callable[[], StoredArray]]) -> Mapping[str, StoredArray]:
    """Those of the arrays that data have, opened; the others may be of any kind.  All are named where none is ours."""
    return {name: open_array() for name, open_array in found.items() if name in NAMES or "images" not in found}


def _is_zarr(path: Path) -> bool:
    return any((path / file).is_file() for file in _ZARR_FILES)


def _require(path: Path, condition: bool, name: str, expected: str, got: str) -> None:
    if not condition:
        raise ValueError(f"data.path: {name} in {str(path)!r}: expected {expected}, but got {got}")


def _check(data: ArrayData, path: Path) -> None:
    require = partial(_require, path)
    for name in NAMES:
        if (array := getattr(data, name)) is None:
            continue
        given = f"{array.dtype} {list(array.shape)}"
        require(all(type(length) is int for length in array.shape), name, "whole numbers as shape", given)
        require(array.dtype.kind != "O", name, "numbers", "Python objects, which are not loaded from files")
        if name.endswith("images"):
            require(len(array.shape) > 1 and array.shape[0] > 0, name, "[n, ...] with n at least 1", given)
    images, test = data.images, data.test_images
    if test is not None:
        expected, got = (f"{array.dtype} {['n', *array.shape[1:]]}".replace("'", "") for array in (images, test))
        require(expected == got, "test_images", f"{expected}, as images are", got)


def _check_labels(data: ArrayData, path: Path) -> None:
    require, images, test = partial(_require, path), data.images, data.test_images
    if test is not None:
        require(
            (data.labels is None) == (data.test_labels is None), "labels", "labels and test_labels, or neither", "one"
        )
    for name, labels, labelled in (("labels", data.labels, images), ("test_labels", data.test_labels, test)):
        if labels is not None:
            require(labelled is not None, name, "test_images with them", "none")
            n = labelled.shape[0] if labelled is not None else 0
            given = f"{labels.dtype} {list(labels.shape)}"
            require(labels.dtype.kind in "iu" and labels.shape == (n,), name, f"integers [{n}], one an image", given)


@dataclass(frozen=True, eq=False)
class _Mapped:
    """A .npy, mapped only while it is read, so that what was read does not count as the process's memory."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, path: Path) -> _Mapped:
        array = _map(path)
        return cls(path, array.shape, array.dtype)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return np.asarray(_map(self.path)[indices])


def _map(path: Path) -> NDArray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True, eq=False)
class _Zipped:
    """A member of a .npz, which is read as a whole when a part is first wanted."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, path: Path, archive: zipfile.ZipFile, name: str) -> _Zipped:
        with archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            held = archive.getinfo(f"{name}.npy")
            most = held.compress_size * (1 if held.compress_type == zipfile.ZIP_STORED else _DEFLATED)
            size = min(held.file_size, most) if held.compress_type <= zipfile.ZIP_DEFLATED else held.file_size
            _require_held(name, shape, dtype, size - file.tell())
        return cls(path, name, shape, dtype)

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        return self._whole[indices]

    @functools.cached_property
    def _whole(self) -> NDArray:
        with np.load(self.path, allow_pickle=False) as archive:
            return archive[self.name]


def _require_held(name: str, shape: tuple[int, ...], dtype: np.dtype, most: int) -> None:
    """Refuse a header that says more than the bytes beside it can hold.

    Raises:
        ValueError: it does.
    """
    if (said := math.prod(shape) * dtype.itemsize) > most:
        raise ValueError(
            f"the header of {name} says {dtype} {list(shape)}, {said:,} bytes, of which there can be at most {most:,}"
        )


class _Chunked:
    """A Zarr array, read by bands of chunks: those that hold the rows of one range."""

    def __init__(self, array: Any, path: Path) -> None:
        if 0 in array.chunks:
            raise ValueError(f"{array.name or 'it'} has chunks {list(array.chunks)} of nothing")
        for shape in (array.shape, array.chunks):
            if math.prod(shape) * array.dtype.itemsize > _SMALL:
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                _require_held(path.name, shape, array.dtype, size * _COMPRESSED)
        self._array = array
        self._rows = array.chunks[0]
        self._band = functools.lru_cache(maxsize=1)(self._read_band)  # the next rows mostly lie in the same

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def missing(self) -> tuple[int, int]:
        """How many of its chunks have no file, and how many chunks there are."""
        return self._array.nchunks - self._array.nchunks_initialized, self._array.nchunks

    def take(self, indices: NDArray[np.int64]) -> NDArray:
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        bands = indices // self._rows
        for band in np.unique(bands):
            here = bands == band
            rows[here] = self._band(int(band))[indices[here] - band * self._rows]
        return rows

    def _read_band(self, number: int) -> NDArray:
        return np.asarray(self._array[number * self._rows : (number + 1) * self._rows])
