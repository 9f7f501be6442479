"""Whether stores are as they were written: every chunk of every array is read, and its checksum compared."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from tqdm import tqdm

from reluscope import stores

_KINDS = ("weights", "counts", "measure")


def find_stores(path: str | os.PathLike[str]) -> list[Path]:
    """The store at `path`, or all stores below it, by name; unfinished work (`*.partial`) is none.

    Raises:
        StoreError: there is nothing, or no store.
    """
    root = Path(path)
    if not root.is_dir():
        raise stores.StoreError(f"{path}: expected a store or a folder with stores, but there is none")
    if root.suffix == ".zarr" or (root / "zarr.json").exists():
        return [root]
    found = sorted(p for p in root.rglob("*.zarr") if p.is_dir() and ".partial" not in str(p.relative_to(root)))
    if not found:
        raise stores.StoreError(f"{path}: expected a store or a folder with stores, but there is no *.zarr in it")
    return found


def damages(path: Path, *, progress: bool = False) -> Iterator[str]:
    """What is wrong with a store, one line for each damaged chunk or file: array, steps, reason.

    Args:
        progress: show a bar over the chunks, if standard error is a terminal.
    """
    try:
        stores.attributes_of(path, *_KINDS)
        group = zarr.open_group(str(path), mode="r", use_consolidated=False)
        arrays = [member for _, member in sorted(group.members(max_depth=None)) if isinstance(member, zarr.Array)]
    except (ValueError, KeyError, TypeError, OSError) as error:  # StoreError is a ValueError
        yield str(error).removeprefix(f"{path}: ")
        return
    total = sum(array.nchunks for array in arrays)
    with tqdm(total=total, desc=str(path), unit="chunk", disable=None if progress else True) as bar:
        for array in arrays:
            for index in itertools.product(*(range(n) for n in array.cdata_shape)):
                bar.update()
                try:
                    stores.read_chunk(array, index)
                except stores.StoreError as error:
                    yield f"{_place(group, array, index)}: {error}"


def _place(group: zarr.Group, array: zarr.Array, index: tuple[int, ...]) -> str:
    """Which array, and which steps of it as far as they can be told."""
    region = stores.region_of(array, index)
    dimensions = array.metadata.dimension_names or ()  # type: ignore[union-attr]
    try:
        steps = stores.read_chunk(stores.array_of(group, "step"), (0,))  # all of it
        if "step" in dimensions:
            chosen = steps[region[dimensions.index("step")]]
        elif dimensions == ("pattern",):
            ends = stores.read_chunk(stores.array_of(group, f"{array.path.rpartition('/')[0]}/indptr"), (0,))
            first = int(np.searchsorted(ends, region[0].start, side="right")) - 1
            last = int(np.searchsorted(ends, region[0].stop, side="left"))
            chosen = steps[first:last]
        else:
            return array.path
    except (stores.StoreError, KeyError):  # that array is damaged too, and named by itself
        return array.path
    return f"{array.path}, {stores.steps_named(chosen)}"
