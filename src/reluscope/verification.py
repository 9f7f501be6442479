"""Whether stores are as they were written: every file must be the one that was written under its name, and whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from reluscope import stores
from reluscope.placement import (
    OTHER,
    CheckedStore,
    Mark,
    PlacementError,
    chunks_of,
    files_below,
    lost_chunks,
    mark_of_file,
    read_manifest,
    region_of,
    stray,
)

_KINDS = ("weights", "counts", "measure")


def find_stores(path: str | os.PathLike[str]) -> list[Path]:
    """The store at `path`, or all of this project's stores below it, by name; unfinished work is none.

    Raises:
        StoreError: there is nothing, or no such store.
    """
    root = Path(path)
    if not root.is_dir():
        raise stores.StoreError(f"{path}: expected a store or a folder with stores, but there is none")
    if root.suffix == ".zarr" or (root / "zarr.json").exists():
        if _is_unfinished(root) or _is_foreign(root):
            what = "unfinished" if _is_unfinished(root) else "of another kind"
            raise stores.StoreError(f"{path}: expected a finished store of reluscope, but it is {what}")
        return [root]
    below = sorted(p for p in root.rglob("*.zarr") if p.is_dir())
    found = [p for p in below if not (_is_unfinished(p.relative_to(root)) or _is_foreign(p))]
    if not found:
        raise stores.StoreError(f"{path}: expected a store or a folder with stores, but there is none in it")
    return found


def _is_unfinished(path: Path) -> bool:
    return any(part.endswith(".partial") or ".partial." in part for part in path.parts)


def _is_foreign(path: Path) -> bool:
    """Whether somebody else's store, for certain: one with a manifest of ours lost its attributes."""
    try:
        read_manifest(path)
    except PlacementError:
        pass
    else:
        return False
    try:
        return json.loads((path / "zarr.json").read_text())["attributes"].get("kind") not in _KINDS
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def is_placement_known(path: Path) -> bool:
    """Whether the store says which file is which; those made before stores did do not."""
    try:
        return stores.marks_of(path) is not None
    except (ValueError, KeyError, TypeError, OSError):
        return True  # it should, and is damaged


def damages(path: Path, *, progress: bool = False) -> Iterator[str]:
    """What is wrong with a store, one line for each damaged chunk or file: array, steps, reason.

    Args:
        progress: show a bar over the chunks, if standard error is a terminal.
    """
    manifest: Mapping[str, Mark] | None = None
    try:
        stores.attributes_of(path, *_KINDS)
    except (stores.StoreError, OSError) as error:
        yield _one_line(error).removeprefix(f"{path}: ")
        return
    try:
        members = dict(json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"])
    except (ValueError, KeyError, TypeError) as error:
        yield f"zarr.json: its consolidated metadata are damaged ({type(error).__name__}: {_one_line(error)})"
        return
    try:
        manifest = stores.marks_of(path)
        strays = [] if manifest is None else sorted(set(files_below(path)) - manifest.keys())
        yield from map(stray, strays)
        if manifest is not None and mark_of_file(path, "zarr.json") != manifest.get("zarr.json"):
            yield f"zarr.json {OTHER}"
    except PlacementError as error:
        yield str(error)
    yield from _damaged_metadata(path, members, manifest)
    arrays, group = [], None
    try:
        group = _unchecked_metadata(path, manifest)
        arrays = [stores.array_of(group, name) for name in sorted(members) if members[name]["node_type"] == "array"]
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        yield stores.unreadable_array(path) or _one_line(error).removeprefix(f"{path}: ")
    if group is not None and arrays:
        yield from _damaged_chunks(path, group, arrays, is_listed=manifest is not None, progress=progress)


def _unchecked_metadata(path: Path, manifest: Mapping[str, Mark] | None) -> zarr.Group:
    """The store, whose chunks are read although its metadata are damaged, which was said before."""
    if manifest is not None:
        manifest = {**manifest, "zarr.json": mark_of_file(path, "zarr.json")}
    return zarr.open_group(CheckedStore(path, manifest=manifest), mode="r")


def _damaged_chunks(
    path: Path, group: zarr.Group, arrays: Sequence[zarr.Array], *, is_listed: bool, progress: bool
) -> Iterator[str]:
    """Chunks of arrays that are missing, of another place, or cannot be decoded.

    Args:
        is_listed: what is not the store's was told from its manifest.
    """
    found = [(array, *chunks_of(array, path)) for array in arrays]
    total = sum(len(there) for _, there, _ in found)
    with tqdm(total=total, desc=str(path), unit="chunk", disable=None if progress else True) as bar:
        for array, there, strays in found:
            yield from map(stray, [] if is_listed else strays)
            lost = lost_chunks(array, there)
            if len(lost) < (number := array.nchunks - len(there)):
                yield f"{array.path}: {number:,} of {array.nchunks:,} chunks are missing"
            for index in sorted({*there, *lost}):
                bar.update(index in there)
                try:
                    stores.read_chunk(array, index)
                except stores.StoreError as error:
                    yield f"{_place(group, array, index)}: {error}"


def _damaged_metadata(path: Path, members: Mapping[str, Any], manifest: Mapping[str, Mark] | None) -> Iterator[str]:
    """Each array's and group's own metadata must be there, as written, and say what the consolidated ones say."""
    listed = {name.removesuffix("/zarr.json") for name in manifest or {} if name.endswith("/zarr.json")}
    for name in sorted({*members, *listed}):
        file = path / name / "zarr.json"
        try:
            own = json.loads(file.read_text())
            for metadata in (own, members.get(name, {})):
                metadata.pop("consolidated_metadata", None)
            if own != members.get(name):
                yield f"{name}/zarr.json: it says otherwise than the store's consolidated metadata"
            elif manifest is not None and mark_of_file(path, f"{name}/zarr.json") != manifest.get(f"{name}/zarr.json"):
                yield f"{name}/zarr.json {OTHER}"
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            yield f"{name}/zarr.json: {'it is missing' if isinstance(error, FileNotFoundError) else _one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _place(group: zarr.Group, array: zarr.Array, index: tuple[int, ...]) -> str:
    """Which array, and which steps of it as far as they can be told."""
    region = region_of(array, index)
    dimensions = array.metadata.dimension_names or ()  # type: ignore[union-attr]
    try:
        steps = stores.read_chunk(stores.array_of(group, "step"), (0,))  # all of it
        if "step" in dimensions:
            chosen = steps[region[dimensions.index("step")]]
        elif dimensions in (("pattern",), ("pair",)):
            indptr = "indptr" if dimensions == ("pattern",) else "class_indptr"
            ends = stores.read_chunk(stores.array_of(group, f"{array.path.rpartition('/')[0]}/{indptr}"), (0,))
            first = int(np.searchsorted(ends, region[0].start, side="right")) - 1
            last = int(np.searchsorted(ends, region[0].stop, side="left"))
            chosen = steps[first:last]
        else:
            return array.path
    except (stores.StoreError, ValueError, IndexError):  # that array is damaged too, and named by itself
        return array.path
    return f"{array.path}, {stores.steps_named(chosen)}"
