"""What all stores share: Zarr v3 groups with named dimensions, lossless codecs, checksums, a mark that says "finished".

A store is written under a partial name and renamed when it is complete, so nothing unfinished ever bears a final name.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import PCodec

# zarr's advice about codecs outside the Zarr v3 core specification; numcodecs, which is installed with us, reads them.
warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")


_ALL_CHUNKS: Any = {"write_empty_chunks": True}  # so that a chunk that is not there was lost

_REMAKE = "delete it, and the workflow makes it again"


class StoreError(ValueError):
    """A store is missing, unfinished, or not what it should be."""


def create_array(
    group: zarr.Group,
    name: str,
    *,
    shape: tuple[int, ...],
    dimensions: tuple[str, ...],
    dtype: Any,
    chunks: tuple[int, ...] | None = None,
    fill_value: Any = 0,
    pcodec: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> zarr.Array:
    """Create an array whose chunks carry a CRC32C checksum.

    Args:
        pcodec: settings of PCodec, which compresses numbers best; None takes zstd.
        overwrite: replace an array of that name, as a killed job may have left one.
    """
    codecs: dict[str, Any] = {"compressors": [ZstdCodec(), Crc32cCodec()]}
    if pcodec is not None:
        codecs = {"serializer": PCodec(**pcodec), "compressors": [Crc32cCodec()]}
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks or tuple(max(n, 1) for n in shape),
        dtype=dtype,
        fill_value=fill_value,
        dimension_names=dimensions,
        attributes=dict(attributes or {}),
        overwrite=overwrite,
        config=_ALL_CHUNKS,
        **codecs,
    )


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """An array of the group."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array.with_config(_ALL_CHUNKS)


def write_array(
    group: zarr.Group, name: str, values: Any, dimensions: tuple[str, ...], attributes: Mapping[str, Any] | None = None
) -> zarr.Array:
    """Create a small array and fill it; strings become Zarr's variable-length strings."""
    values = np.asarray(values)
    dtype: Any = str if values.dtype.kind in "UT" else values.dtype
    fill_value = "" if dtype is str else np.nan if values.dtype.kind == "f" else 0
    array = create_array(
        group,
        name,
        shape=values.shape,
        dimensions=dimensions,
        dtype=dtype,
        fill_value=fill_value,
        attributes=attributes,
        overwrite=True,
    )
    array[...] = values
    return array


def difference(found: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first of the settings `now` that a store's attributes have otherwise, in words; None where they agree."""
    for name, value in now.items():
        then = found.get(name)
        if isinstance(value, dict) and isinstance(then, dict):
            if inner := difference(then, {**dict.fromkeys(then), **value}):
                return f"{name}.{inner}"
        elif then != value:
            return f"{name}: {then}, but now it is {value}"
    return None


def lock(folder: Path, what: str) -> FileLock:
    """Keep the folder of unfinished work to this process; a process that dies gives it back.

    Raises:
        StoreError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / "lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{folder}: another process is {what}; let it finish or stop it") from None
    return held


def finish(partial: Path, final: Path, group: zarr.Group) -> None:
    """Mark the store complete, consolidate its metadata once, and give it its final name."""
    group.attrs["complete"] = True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(group.store)
    if final.exists():
        shutil.rmtree(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)


def attributes_of(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """A finished store's attributes, read without opening it.

    Raises:
        StoreError: there is none, it is unfinished or unreadable, or it is a store of another kind.
    """
    file = Path(path) / "zarr.json"
    if not file.is_file():
        raise StoreError(f"{path}: expected a {kind} store, but there is none")
    try:
        attributes = dict(json.loads(file.read_text())["attributes"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: the {kind} store is damaged (zarr.json: {error}); {_REMAKE}") from error
    if (found := attributes.get("kind")) != kind:
        raise StoreError(f"{path}: expected a {kind} store, but it is a {found or 'foreign'} one")
    if attributes.get("complete") is not True:
        raise StoreError(f"{path}: the {kind} store is unfinished; {_REMAKE}")
    return attributes


def open_store(path: str | os.PathLike[str], kind: str) -> zarr.Group:
    """Open a finished store for reading.

    Raises:
        StoreError: there is none, it is unfinished, damaged, or a store of another kind.
    """
    attributes_of(path, kind)
    group = zarr.open_group(str(path), mode="r")
    for name, member in group.members(max_depth=None):
        if isinstance(member, zarr.Array) and (lost := member.nchunks - member.nchunks_initialized):
            chunks = f"{lost} of {member.nchunks} chunks of {name}"
            raise StoreError(f"{path}: the {kind} store is damaged: {chunks} are missing; {_REMAKE}")
    return group


def versions() -> dict[str, str]:
    """Versions of what makes the numbers, for a store's attributes."""
    return {name: metadata.version(name) for name in ("reluscope", "torch", "numpy", "zarr", "numcodecs", "pcodec")}
