"""Whether stores are as they were written: every chunk of every array is read, and its checksum compared."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from reluscope import stores

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
    """Whether somebody else's store, for certain."""
    try:
        return json.loads((path / "zarr.json").read_text())["attributes"].get("kind") not in _KINDS
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def damages(path: Path, *, progress: bool = False) -> Iterator[str]:
    """What is wrong with a store, one line for each damaged chunk or file: array, steps, reason.

    Args:
        progress: show a bar over the chunks, if standard error is a terminal.
    """
    try:
        stores.attributes_of(path, *_KINDS)
        members = json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
        group = zarr.open_group(str(path), mode="r")
        arrays = [stores.array_of(group, name) for name in sorted(members) if members[name]["node_type"] == "array"]
    except (ValueError, KeyError, TypeError, OSError) as error:  # StoreError is a ValueError
        yield " ".join(str(error).removeprefix(f"{path}: ").split())
        return
    yield from _damaged_metadata(path, members)
    total = sum(array.nchunks for array in arrays)
    with tqdm(total=total, desc=str(path), unit="chunk", disable=None if progress else True) as bar:
        for array in arrays:
            for index in itertools.product(*(range(n) for n in array.cdata_shape)):
                bar.update()
                try:
                    stores.read_chunk(array, index)
                except stores.StoreError as error:
                    yield f"{_place(group, array, index)}: {error}"


def _damaged_metadata(path: Path, members: Mapping[str, Any]) -> Iterator[str]:
    """Each array's and group's own metadata must be there, and say what the store's consolidated metadata say."""
    for name, consolidated in sorted(members.items()):
        file = path / name / "zarr.json"
        try:
            own = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            yield f"{name}/zarr.json: {'it is missing' if isinstance(error, FileNotFoundError) else error}"
            continue
        for metadata in (own, consolidated):
            metadata.pop("consolidated_metadata", None)
        if own != consolidated:
            yield f"{name}/zarr.json: it says otherwise than the store's consolidated metadata"


def _place(group: zarr.Group, array: zarr.Array, index: tuple[int, ...]) -> str:
    """Which array, and which steps of it as far as they can be told."""
    region = stores.region_of(array, index)
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
    except (stores.StoreError, KeyError):  # that array is damaged too, and named by itself
        return array.path
    return f"{array.path}, {stores.steps_named(chosen)}"
