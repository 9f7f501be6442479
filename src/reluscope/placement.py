"""Which file of a store is which: each has a mark, kept by its name, so that one at another's place is noticed.

A chunk ends with its CRC32C, which says that it is whole, but not where it belongs: that and its size are its mark,
which costs nothing to compare. Metadata have no checksum of their own, and their mark is a digest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Self

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

MANIFEST = "manifest.json"
"""In a finished store: the marks of all its other files. The root attribute `manifest` says that there is one."""

JOURNAL = "journal.jsonl"
"""In an unfinished store: the marks of what was written so far."""

_MOST_NAMED = 1000
"""Chunks that are missing are named one by one; not where more are, which metadata may say that are damaged."""

CHECKSUM_BYTES = 4  # at the end of each chunk

Mark = tuple[int, str]
"""Size in bytes, and checksum or digest in hexadecimal."""


class PlacementError(ValueError):
    """A file is not the one that was written under its name."""


def mark_of(name: str, data: bytes | memoryview) -> Mark:
    """Mark of a file by its name in the store and its contents."""
    if _is_chunk(name):
        return len(data), bytes(data[-CHECKSUM_BYTES:]).hex()
    return len(data), hashlib.sha256(data).hexdigest()[:32]


def mark_of_file(root: Path, name: str) -> Mark:
    """The same of a file on the disk, of which no more is read than is needed."""
    with (root / name).open("rb") as file:
        if not _is_chunk(name):
            return mark_of(name, file.read())
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - CHECKSUM_BYTES, 0))
        return size, file.read().hex()


def files_below(root: Path) -> Iterator[str]:
    """Files of a store by their names in it, but for its manifest and what is hidden (.DS_Store, .nfs...)."""
    for folder, _, names in os.walk(root):
        above = Path(folder).relative_to(root).as_posix()
        for name in names:
            if not name.startswith(".") and not (above == "." and name in (MANIFEST, JOURNAL)):
                yield name if above == "." else f"{above}/{name}"


def manifest_of(marks: Mapping[str, Mark]) -> bytes:
    """The contents of a manifest, which has a digest of its own."""
    files = {name: list(marks[name]) for name in sorted(marks)}
    return json.dumps({"sha256": _digest(files), "files": files}, indent=0).encode()


def read_manifest(root: Path) -> dict[str, Mark]:
    """The marks of a finished store.

    Raises:
        PlacementError: there is no manifest, or it is damaged.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_bytes())
        if manifest["sha256"] != _digest(manifest["files"]):
            raise PlacementError(f"{MANIFEST}: it is damaged (its digest is another one)")
        return {name: (int(size), str(mark)) for name, (size, mark) in manifest["files"].items()}
    except FileNotFoundError:
        raise PlacementError(f"{MANIFEST}: it is missing") from None
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlacementError(f"{MANIFEST}: it is damaged ({type(error).__name__}: {error})") from error


class CheckedStore(LocalStore):
    """A finished store in a folder, of which nothing is read that lies at another's place.

    Args:
        manifest: the marks of its files; None where they are not known, and nothing is compared.
    """

    def __init__(self, root: Path | str, *, manifest: Mapping[str, Mark] | None = None, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self.manifest = manifest

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.root, manifest=self.manifest, read_only=read_only)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return self._checked(key, super().get_sync(key, prototype=prototype, byte_range=byte_range), byte_range)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return self._checked(key, await super().get(key, prototype, byte_range), byte_range)

    def _checked(self, name: str, value: Buffer | None, byte_range: ByteRequest | None) -> Buffer | None:
        if self.manifest is None or byte_range is not None:
            return value
        written = self.manifest.get(name)
        if value is None:
            if written is not None:
                raise PlacementError(f"{name} is missing")
        elif written is None:
            raise PlacementError(stray(name))
        elif mark_of(name, memoryview(value.as_numpy_array())) != written:  # type: ignore[arg-type]
            raise PlacementError(f"{name} {OTHER}")
        return value


OTHER = "is not the file that was written there"


def chunk_fault(group: zarr.Group, path: Path) -> str | None:
    """The first file of a chunk that is not the store's, or array that lacks some; None where there is none."""
    for name, member in group.members(max_depth=None):
        if isinstance(member, zarr.Array):
            there, strays = chunks_of(member, path)
            if strays:
                return stray(strays[0])
            if lost := member.nchunks - len(there):
                return f"{lost:,} of {member.nchunks:,} chunks of {name} are missing"
    return None


def chunks_of(array: zarr.Array, path: Path) -> tuple[set[tuple[int, ...]], list[str]]:
    """Places in an array's grid of chunks that have a file, and files of chunks that have no place in it.

    Only files are looked at, and not the grid, which may be beyond all measure where metadata are damaged.
    """
    folder, grid = path / array.path / "c", array.cdata_shape
    there, strays = set(), []
    for above, _, names in os.walk(folder):
        parts = Path(above).relative_to(folder).parts
        for name in names:
            if name.isdigit():  # others, as those of a file browser, are none of ours
                index = tuple(int(part) if part.isdigit() else -1 for part in (*parts, name))
                is_named_so = tuple(map(str, index)) == (*parts, name)
                if is_named_so and len(index) == len(grid) and all(map(operator.lt, index, grid)):
                    there.add(index)
                else:
                    strays.append("/".join((array.path, "c", *parts, name)))
    return there, sorted(strays)


def lost_chunks(array: zarr.Array, there: Set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Places of an array's grid that have no file, in order; none where they are too many to be named."""
    if not 0 < array.nchunks - len(there) <= _MOST_NAMED:
        return []
    return [index for index in itertools.product(*map(range, array.cdata_shape)) if index not in there]


_STRAY = "does not belong to the store"


def stray(name: str) -> str:
    """What is said of a file that is not the store's."""
    return f"{name} {_STRAY}"


def is_stray(fault: str) -> bool:
    """Whether that is what is said."""
    return fault.endswith(_STRAY)


def chunk_file(array: zarr.Array, index: tuple[int, ...]) -> Path:
    """File of a chunk by its place in the grid."""
    return Path(str(getattr(array.store, "root", ""))) / array.path / array.metadata.encode_chunk_key(index)


def region_of(array: zarr.Array, index: tuple[int, ...]) -> tuple[slice, ...]:
    """What a chunk covers; one slice a dimension."""
    grid = zip(index, array.chunks, array.shape, strict=True)
    return tuple(slice(i * size, min((i + 1) * size, length)) for i, size, length in grid)


def _is_chunk(name: str) -> bool:
    return "/c/" in name


def _digest(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]
