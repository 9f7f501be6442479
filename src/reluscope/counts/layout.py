"""How a counts store is laid out: what is kept of a layer, under which names, and how it is compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from reluscope import stores
from reluscope.patterns import Counts, PatternCounts, SampledCounts

CHUNK_PATTERNS = 1 << 18
PAGE_PATTERNS = 1 << 15
"""Patterns that PCodec fits itself to at a time: several steps may share a chunk."""

MACHINE = ("device", "threads", "batches_at_once")
"""Attributes that may differ among counts of one run."""

NOT_COUNTED = "not_counted"
"""The attribute that lists what has the shape of an activation and is in no layer: name, operation, reason."""

CHANGING = ("height", "width", "num_positions")
"""What a layer may have another of at each step, where its positions do not lie image by image: 0 if it has."""

EXACT = {"num_distinct": np.int64, "largest_count": np.int64, "entropy": np.float64}
"""What a store of samples keeps for each step of a layer, of all patterns: the attributes of `SampledCounts`."""

SHUFFLED = "shuffled_joint_entropy"
"""For each step of a layer, where labels were shuffled too: the attribute of `PatternCounts`."""

NUM_NAN = "num_nan"
"""For each step of a layer: the attribute of `PatternCounts`, or `UNKNOWN`."""

UNKNOWN = -1

POSITIONS = "num_positions"
"""For each step of a layer, where it is not the same at all: positions counted. Then that of the layer is 0."""

OF_STEPS = {**EXACT, SHUFFLED: np.float64, POSITIONS: np.int64}


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One layer of an unfinished store.

    Attributes:
        group: its place in the store.
        ends: after each step, how many patterns are kept of all steps so far.
        pair_ends: the same of pairs of patterns and classes; empty where no labels are counted.
        of_steps: by name in `OF_STEPS`, a value for each step, where there is one.
        num_nan: at each step.
    """

    group: zarr.Group
    ends: list[int]
    pair_ends: list[int]
    of_steps: dict[str, list[Any]]
    num_nan: list[int]

    @cached_property
    def described(self) -> dict[str, Any]:
        return dict(self.group.attrs)

    def keep_in_common(self, now: Mapping[str, Any]) -> None:
        """Height, width and positions are 0 once they are not the same at all steps."""
        other = {name: 0 for name in CHANGING if self.described[name] not in (0, now[name])}
        if other:
            self.group.attrs.update(other)
            self.described.update(other)

    @cached_property
    def growing(self) -> dict[str, list[int]]:
        """The ends of each array that grows step by step, by its name."""
        if "class_index" not in self.group:
            return dict.fromkeys(("keys", "counts"), self.ends)
        of_patterns = dict.fromkeys(("keys", "counts", "num_classes_of"), self.ends)
        return of_patterns | dict.fromkeys(("class_index", "class_counts"), self.pair_ends)

    @property
    def num_distinct(self) -> list[int]:
        """Distinct patterns of each step, whether all are kept or not."""
        return self.of_steps.get("num_distinct") or np.diff([0, *self.ends]).tolist()


def create_layer(store: zarr.Group, index: int, counts: Counts) -> StoredLayer:
    """An empty layer, for such counts."""
    described = describe(counts)
    group = store.create_group(layer_group(index), attributes=described)
    count_dtype = np.dtype(np.uint32 if counts.num_positions < 1 << 32 else np.uint64)
    dtypes = {"keys": counts.sample.keys.dtype, "counts": count_dtype}
    if (classes := counts.sample.classes) is not None:
        dtypes |= {"num_classes_of": classes.index.dtype, "class_index": classes.index.dtype}
        dtypes |= {"class_counts": count_dtype}
    for name, dtype in dtypes.items():
        create_pattern_array(group, name, dtype, dtypes["keys"])
    of_steps = [POSITIONS, *(EXACT if isinstance(counts, SampledCounts) else ())]
    if counts.sample.shuffled_joint_entropy is not None:
        of_steps.append(SHUFFLED)
    return StoredLayer(group, [], [], {name: [] for name in of_steps}, [])


def last(ends: Sequence[int]) -> int:
    """The last of them, from where the next step begins; 0 before the first."""
    return ends[-1] if ends else 0


def values_of(counts: PatternCounts, name: str) -> NDArray[Any]:
    """What is appended to an array that grows."""
    classes = counts.classes
    if name in ("keys", "counts") or classes is None:
        return getattr(counts, name)  # type: ignore[no-any-return]
    of_classes = {
        "num_classes_of": classes.num_classes_of,
        "class_index": classes.index,
        "class_counts": classes.counts,
    }
    return of_classes[name]


def describe(counts: Counts) -> dict[str, Any]:
    """What does not change from step to step."""
    names = ("layer_name", "num_channels", "key_kind", "num_positions", "height", "width", "channel_axis", "bit")
    return {name: getattr(counts, name) for name in names}


def fits(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether these are one layer at two steps: positions may be others where they do not lie image by image."""
    fixed = set(then) - set(CHANGING) if 0 in (then["height"], now["height"]) else set(then)
    return all(then[name] == now.get(name) for name in fixed)


def in_words(described: Mapping[str, Any] | None) -> str:
    """What `describe` gave, for a message; None is no layer."""
    if described is None:
        return "none"
    return "{layer_name!r} with {num_channels} channels, {height} x {width}, {num_positions:,} positions".format(
        **described
    )


def create_pattern_array(group: zarr.Group, name: str, dtype: np.dtype[Any], key_dtype: np.dtype[Any]) -> zarr.Array:
    """An empty array over patterns, or over pairs of them and classes, with the codec that is best for it.

    tests/benchmarks/codecs.py says which. PCodec takes the differences of sorted keys by itself; its highest level is
    slow for keys, but not for the others. Keys of 64 bits stand in clusters in trained layers, and their upper bytes
    repeat; of patterns of 16 channels, most occur in all classes: zstd finds that, and PCodec does not. PCodec takes no
    bytes, and so what is said of classes has two.
    """
    if name in ("num_classes_of", "class_index"):
        dtype = np.dtype(np.uint16)
    codec: dict[str, Any] = {"pcodec": {"level": 8 if name == "keys" else 12, "equal_pages_up_to": PAGE_PATTERNS}}
    if (name, key_dtype.itemsize) in (("keys", 8), ("class_index", 2)):
        whole = CHUNK_PATTERNS * dtype.itemsize  # Blosc's own blocks are smaller, and compress less
        codec = {"blosc": {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "blocksize": whole}}
    dimensions = ("pair",) if name.startswith("class_") else ("pattern",)
    return stores.create_array(
        group, name, shape=(0,), dimensions=dimensions, dtype=dtype, chunks=(CHUNK_PATTERNS,), **codec
    )


def stages(height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stage of each layer, from 0: a new one begins where the spatial resolution changes.  Shape [layer]."""
    changes = (np.diff(height) != 0) | (np.diff(width) != 0)
    return np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)


def layer_group(layer: int) -> str:
    """Name of a layer's group inside the store."""
    return f"layer{layer:03d}"


def group_of_layer(store: zarr.Group, layer: int) -> zarr.Group:
    """That group."""
    group = store[layer_group(layer)]
    assert isinstance(group, zarr.Group)
    return group
