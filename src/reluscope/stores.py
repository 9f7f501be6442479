"""What all stores share: Zarr v3 groups with named dimensions, lossless codecs, checksums, a mark that says "finished".

A store is written under a partial name and renamed when it is complete, so nothing unfinished ever bears a final name.
"""

from __future__ import annotations

import itertools
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
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import PCodec
from zarr.core.metadata import ArrayV3Metadata

from reluscope import paths
from reluscope.files import DurableStore, WriteError, make_folder, rename
from reluscope.placement import (
    MANIFEST,
    CheckedStore,
    Mark,
    PlacementError,
    chunk_fault,
    chunk_file,
    is_stray,
    read_manifest,
    region_of,
)

# zarr's advice about codecs outside the Zarr v3 core specification; numcodecs, which is installed with us, reads them.
warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")


_ALL_CHUNKS: Any = {"write_empty_chunks": True}  # so that a chunk that is not there was lost

_DAMAGED = (ValueError, RuntimeError, TypeError, OSError, EOFError)
"""What decoding a damaged chunk raises, besides the checksum's ValueError."""

_UNREADABLE = (*_DAMAGED, LookupError, AttributeError, NotImplementedError)
"""What zarr raises over metadata that are damaged, or name what is not installed."""


def _remake(path: str | os.PathLike[str]) -> str:
    """What to do about a store that is damaged."""
    if paths.in_workflow(path):
        return "delete it, and the workflow makes it again"
    return "put a copy in its place, or delete it and make it again"


class StoreError(ValueError):
    """A store is missing, unfinished, or not what it should be."""


if not __debug__:  # zarr 3.1.6 takes node_type out of a group's metadata within an assertion
    raise StoreError(
        "Python runs without assertions (PYTHONOPTIMIZE is set, or -O was given), without which zarr cannot read its "
        "stores; start again with them"
    )


def create_group(path: Path, attributes: Mapping[str, Any]) -> zarr.Group:
    """Create an empty store whose files survive kills and power loss; what lay at `path` is deleted.

    Raises:
        WriteError: it cannot be written.
    """
    shutil.rmtree(path, ignore_errors=True)
    make_folder(path)
    return zarr.create_group(DurableStore(path), attributes=dict(attributes))


def reopen_group(path: Path, state: Path) -> zarr.Group:
    """Open an unfinished store to go on writing.

    Args:
        state: the file beside it that `write_state` wrote.

    Raises:
        StoreError: a file is not the one that was written under its name, or the metadata cannot be read.
    """
    store = DurableStore(path)
    try:
        store.journal.resume(state)
        return zarr.open_group(store, mode="r+")
    except WriteError:
        raise
    except _UNREADABLE as error:
        raise StoreError(f"{path}: {_one_line(error)}") from error


def write_state(group: zarr.Group, state: Path, data: Any) -> None:
    """Write the file beside an unfinished store that says how far it is, after what it speaks of.

    Raises:
        WriteError: it cannot be written.
    """
    assert isinstance(group.store, DurableStore)
    group.store.journal.write_state(state, data)


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
    blosc: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> zarr.Array:
    """Create an array whose chunks carry a CRC32C checksum.

    Args:
        pcodec: settings of PCodec, which compresses most numbers best.
        blosc: settings of Blosc, which sorts the bytes of numbers by their place before it compresses them. Without
            either, zstd.
        overwrite: replace an array of that name, as a killed job may have left one.
    """
    compressor = ZstdCodec() if blosc is None else BloscCodec(**blosc)
    codecs: dict[str, Any] = {"compressors": [compressor, Crc32cCodec()]}
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
    """An array of the group.

    Raises:
        StoreError: there is none, or its metadata cannot be read.
    """
    try:
        array = group[name]
    except _UNREADABLE as error:
        what = "is missing" if isinstance(error, KeyError) else f"cannot be opened ({_one_line(error)})"
        path = Path(str(getattr(group.store, "root", "")))
        raise StoreError(f"{path}: array {f'{group.path}/{name}'.lstrip('/')} {what}; {_remake(path)}") from error
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


def lock(folder: Path, what: str, *, wait: float = 0.0) -> FileLock:
    """Keep the folder of unfinished work to this process; a process that dies gives it back.

    Args:
        what: another process, which has it, is doing.
        wait: so many seconds for another process to give it back.

    Raises:
        StoreError: another process has it.
        WriteError: the folder cannot be made or written to.
    """
    make_folder(folder)
    held = FileLock(folder / "lock")
    try:
        held.acquire(timeout=wait)
    except Timeout:
        raise StoreError(f"{folder}: another process is {what}; let it finish or stop it") from None
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written to: {error.strerror}") from error
    return held


def finish(partial: Path, final: Path, group: zarr.Group) -> None:
    """Mark the store complete, consolidate its metadata once, bind every file to its name, and give it its final name.

    Raises:
        StoreError: a chunk is missing, or a file is not the one that was written.
        WriteError: it cannot be written or renamed.
    """
    assert isinstance(group.store, DurableStore)
    try:
        if fault := chunk_fault(group, partial):
            raise PlacementError(fault)
        group.attrs.update({"complete": True, "manifest": MANIFEST})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(group.store)
        group.store.journal.finish()
    except PlacementError as error:
        raise StoreError(f"{partial}: cannot be finished: {error}; {_remake(final)}") from error
    rename(partial, final)


def attributes_of(path: str | os.PathLike[str], *kinds: str) -> dict[str, Any]:
    """A finished store's attributes, read without opening it.

    Args:
        kinds: of which the store is expected to be one.

    Raises:
        StoreError: there is none, it is unfinished or unreadable, or it is a store of another kind.
    """
    kind = " or ".join(kinds)
    file = Path(path) / "zarr.json"
    if not file.is_file():
        raise StoreError(f"{path}: expected a {kind} store, but there is none")
    try:
        attributes = dict(json.loads(file.read_text())["attributes"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: the {kind} store is damaged (zarr.json: {error}); {_remake(path)}") from error
    if (found := attributes.get("kind")) not in kinds:
        raise StoreError(f"{path}: expected a {kind} store, but it is a {found or 'foreign'} one")
    if attributes.get("complete") is not True:
        advice = _remake(path) if paths.in_workflow(path) else "start what makes it again, and it goes on"
        raise StoreError(f"{path}: the {kind} store is unfinished; {advice}")
    return attributes


def marks_of(path: str | os.PathLike[str]) -> dict[str, Mark] | None:
    """The marks of a finished store's files; None of one that was made before stores kept them.

    Raises:
        PlacementError: they are lost or damaged, or not those of this store.
    """
    metadata = (Path(path) / "zarr.json").read_bytes()
    if not (Path(path) / MANIFEST).exists() and "manifest" not in json.loads(metadata)["attributes"]:
        return None
    return read_manifest(Path(path))


def open_store(path: str | os.PathLike[str], kind: str) -> zarr.Group:
    """Open a finished store for reading; a file that is not what was written under its name is never read.

    Raises:
        StoreError: there is none, it is unfinished, damaged, or a store of another kind.
    """
    attributes_of(path, kind)
    try:
        group = zarr.open_group(CheckedStore(Path(path), manifest=marks_of(path)), mode="r")
        fault = chunk_fault(group, Path(path))
    except _UNREADABLE as error:
        fault = unreadable_array(Path(path)) or _one_line(error)
    if fault:
        advice = "delete that file" if is_stray(fault) else _remake(path)
        raise StoreError(f"{path}: the {kind} store is damaged: {fault}; {advice}")
    return group


def unreadable_array(path: Path) -> str | None:
    """The first array of a finished store whose metadata cannot be read, and why; None where all can."""
    try:
        members = sorted(json.loads((path / "zarr.json").read_bytes())["consolidated_metadata"]["metadata"].items())
    except _UNREADABLE as error:
        return f"zarr.json: {_one_line(error)}"
    for name, member in members:
        try:
            if member["node_type"] == "array":
                ArrayV3Metadata.from_dict(member)
        except _UNREADABLE as error:
            return f"array {name} cannot be opened ({_one_line(error)})"
    return None


def require_chunks(array: zarr.Array, stop: int) -> None:
    """Every chunk up to `stop` on the last axis must be there: Zarr would read a lost one as zeros.

    Raises:
        StoreError: one is not.
    """
    *others, _ = array.cdata_shape
    for index in itertools.product(*(range(n) for n in others), range(-(-stop // array.chunks[-1]))):
        if not chunk_file(array, index).exists():
            raise StoreError(f"{chunk_file(array, index)} is missing")


def read(array: zarr.Array, selection: Any = ..., *, steps: NDArray[np.int64] | None = None) -> NDArray[Any]:
    """Read a part of an array.

    Args:
        steps: the steps that are read, for the error's words.

    Raises:
        StoreError: a chunk's checksum or contents are wrong.
    """
    try:
        return np.asarray(array[selection])
    except (*_DAMAGED, MemoryError) as error:
        path = Path(str(getattr(array.store, "root", "")))
        if isinstance(error, MemoryError):
            raise StoreError(
                f"{path}: array {array.path}: there is not enough memory to read it ({_one_line(error)})"
            ) from error
        at = "" if steps is None else f", {steps_named(steps)},"
        is_finished = not isinstance(array.store, DurableStore)
        advice = f"; `reluscope verify {path}` names all that is; {_remake(path)}" if is_finished else ""
        raise StoreError(f"{path}: array {array.path}{at} is damaged ({_one_line(error)}){advice}") from error


def misplaced(array: zarr.Array, why: str, steps: NDArray[np.int64] | None = None) -> StoreError:
    """The error of an array whose contents cannot be its own."""
    path, at = Path(str(getattr(array.store, "root", ""))), "" if steps is None else f", {steps_named(steps)},"
    return StoreError(f"{path}: array {array.path}{at} does not hold what belongs there ({why}); {_remake(path)}")


def require_ascending(group: zarr.Group, name: str) -> None:
    """Hold that an array of the group ascends, which steps do.

    Raises:
        StoreError: it does not, or is damaged.
    """
    array = array_of(group, name)
    if (np.diff(read(array)) <= 0).any():
        raise misplaced(array, "it is not ascending")


def require_owner(path: str | os.PathLike[str], attributes: Mapping[str, Any], **owner: str | None) -> None:
    """Hold that a store as a whole lies at its own place: that it is of the run, or measure, that it is read for.

    Raises:
        StoreError: its attributes say otherwise.
    """
    for name, expected in owner.items():
        if expected is not None and (found := attributes.get(name, expected)) != expected:
            raise StoreError(f"{path}: is of {name} {found!r}, where that of {expected!r} belongs; {_remake(path)}")


def is_placement_known(array: zarr.Array) -> bool:
    """Whether each file of the array's store is compared with what was written under its name."""
    return isinstance(array.store, CheckedStore) and array.store.manifest is not None


def read_chunk(array: zarr.Array, index: tuple[int, ...]) -> NDArray[Any]:
    """Read one chunk by its place in the grid of chunks.

    Raises:
        StoreError: it is missing, or its checksum or contents are wrong; says only which of these.
    """
    if not chunk_file(array, index).exists():
        raise StoreError("the chunk is missing")
    try:
        return np.asarray(array[region_of(array, index)])
    except (*_DAMAGED, MemoryError) as error:
        raise StoreError(_one_line(error)) from error


def steps_named(steps: NDArray[np.int64]) -> str:
    """Ascending steps in words."""
    return f"step {steps[0]:,}" if steps[0] == steps[-1] else f"steps {steps[0]:,} to {steps[-1]:,}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def versions() -> dict[str, str]:
    """Versions of what makes the numbers, for a store's attributes; "unknown" of what runs without being installed."""
    return {name: _version(name) for name in ("reluscope", "torch", "numpy", "zarr", "numcodecs", "pcodec")}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # as of a package that PYTHONPATH names
        return "unknown"
