"""Writing a counts store, step after step, so that a killed job can go on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from reluscope import stores
from reluscope.files import remove, write_file
from reluscope.patterns import ClassCounts, Counts, PatternCounts, SampledCounts, expected_collisions

CHUNK_PATTERNS = 1 << 18
PAGE_PATTERNS = 1 << 15
"""Patterns that PCodec fits itself to at a time: several steps may share a chunk."""

SAVE_SECONDS = 60.0
SAVE_BYTES = 1 << 28
"""Counted steps are saved when a minute has passed or 256 MB are waiting, whatever comes first."""

EXACT = {"num_distinct": np.int64, "largest_count": np.int64, "entropy": np.float64}
"""What a store of samples keeps for each step of a layer, of all patterns: the attributes of `SampledCounts`."""


SHUFFLED = "shuffled_joint_entropy"
"""For each step of a layer, where labels were shuffled too: the attribute of `PatternCounts`."""


class CountsWriter:
    """Appends the counts of one step at a time to an unfinished store in `folder`; renames it to `final` at the end.

    Opened on a folder that a killed job left, it continues there: `num_counted` steps are already there.

    Per layer the patterns of all steps stand one after the other (CSR): those of the i-th step are
    ``keys[indptr[i]:indptr[i + 1]]`` and ``counts[indptr[i]:indptr[i + 1]]``. Where only samples are kept, arrays over
    the steps say what is known exactly of all patterns (`EXACT`).

    Where labels were counted, ``num_classes_of`` says in how many classes each pattern occurs, and the pairs of a
    pattern and such a class stand one after the other: those of the i-th step are ``class_index`` and ``class_counts``
    from ``class_indptr[i]`` to ``class_indptr[i + 1]`` (`reluscope.patterns.ClassCounts`).

    Args:
        folder: where the unfinished store is kept.
        final: the finished store's name.
        steps: the steps of the shard, ascending, int64.
        epochs: the same in epochs.
        attributes: what was counted and how, JSON types.
        source: the weights store that is counted.

    A folder left by a job with other attributes, or over weights that were made again since, is started anew, because
    counts can be made again.

    Raises:
        StoreError: another process writes here.
    """

    def __init__(
        self,
        folder: Path,
        final: Path,
        steps: NDArray[np.int64],
        epochs: NDArray[np.float64],
        attributes: Mapping[str, Any],
        source: Path,
    ) -> None:
        self._folder, self._final, self._steps, self._epochs = folder, final, steps, epochs
        coordinates = "step epoch layer layer_name stage num_channels num_positions height width"
        self._attributes = {"kind": "counts", "coordinates": coordinates, **attributes}
        made = (source / "zarr.json").stat()
        self._source = [made.st_ino, made.st_mtime_ns]
        self._lock = stores.lock(folder, "counting this shard")
        self._store, self._state = folder / "counts.zarr", folder / "state.json"
        self.num_counted = 0
        self._written: list[int] = []  # patterns in the store, by layer
        self._waiting: list[list[Counts]] = []  # steps counted but not in the store
        self._layers: list[zarr.Group] = []
        if not self._resume():
            remove(self._state)  # first: it must never speak of another store than its own
            self._group = stores.create_group(self._store, self._attributes)
        self._saved_at = time.monotonic()

    def _resume(self) -> bool:
        if not (self._state.is_file() and self._store.exists()):
            return False
        state = json.loads(self._state.read_text())
        if any(state[key] != now for key, now in self._identity().items()):
            return False
        self._group = stores.reopen_group(self._store)
        self.num_counted, self._written = state["num_counted"], state["written"]
        self._layers = [_group(self._group, layer_group(i)) for i in range(len(self._written))]
        try:
            for group, written in zip(self._layers, self._written, strict=True):
                for name, length in (("keys", written), ("counts", written), ("indptr", self.num_counted + 1)):
                    stores.require_chunks(stores.array_of(group, name), length)
                for name in _of_steps(group):
                    stores.require_chunks(stores.array_of(group, name), self.num_counted)
                if "class_indptr" in group:
                    lengths = {"num_classes_of": written, "class_indptr": self.num_counted + 1}
                    lengths |= dict.fromkeys(("class_index", "class_counts"), self._num_pairs(group, self.num_counted))
                    for name, length in lengths.items():
                        stores.require_chunks(stores.array_of(group, name), length)
        except stores.StoreError:  # what was lost can be counted again
            self.num_counted, self._written, self._layers = 0, [], []
            return False
        return True

    def _identity(self) -> dict[str, Any]:
        return {"steps": self._steps.tolist(), "attributes": self._attributes, "source": self._source}

    def append(self, layers: Sequence[Counts]) -> None:
        """Add the next step's counts, one a layer."""
        if not self._layers:
            self._create_layers(layers)
        self._waiting.append(list(layers))
        self.num_counted += 1
        size = sum(_num_bytes(c.sample) for step in self._waiting for c in step)
        if size > SAVE_BYTES or time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save()

    def _create_layers(self, layers: Sequence[Counts]) -> None:
        for i, counts in enumerate(layers):
            positions = counts.num_positions
            attributes = {
                "layer_name": counts.layer_name,
                "num_channels": counts.num_channels,
                "key_kind": counts.key_kind,
                "num_positions": positions,
                "height": counts.height,
                "width": counts.width,
            }
            group = self._group.create_group(layer_group(i), attributes=attributes)
            kinds = {
                "keys": counts.sample.keys.dtype,
                "counts": np.dtype(np.uint32 if positions < 1 << 32 else np.uint64),
            }
            for name, dtype in kinds.items():
                create_pattern_array(group, name, dtype)
            stores.write_array(group, "indptr", np.zeros(len(self._steps) + 1, np.int64), ("edge",))
            if isinstance(counts, SampledCounts):
                for name, kind in EXACT.items():
                    stores.write_array(group, name, np.zeros(len(self._steps), kind), ("step",))
            if (classes := counts.sample.classes) is not None:
                create_pattern_array(group, "num_classes_of", classes.num_classes_of.dtype)
                create_pattern_array(group, "class_index", classes.index.dtype)
                create_pattern_array(group, "class_counts", kinds["counts"])
                stores.write_array(group, "class_indptr", np.zeros(len(self._steps) + 1, np.int64), ("edge",))
            if counts.sample.shuffled_joint_entropy is not None:
                stores.write_array(group, SHUFFLED, np.zeros(len(self._steps)), ("step",))
        self._layers = [_group(self._group, layer_group(i)) for i in range(len(layers))]
        self._written = [0] * len(layers)

    def _save(self) -> None:
        first = self.num_counted - len(self._waiting)
        for i, group in enumerate(self._layers):
            column = [step[i] for step in self._waiting]
            start = self._written[i]
            ends = start + np.cumsum([len(c.sample.keys) for c in column])
            for name in ("keys", "counts"):
                _extend(group, name, start, [getattr(c.sample, name) for c in column])
            stores.array_of(group, "indptr")[first + 1 : self.num_counted + 1] = ends
            for name in _of_steps(group):
                of = [c.sample if name == SHUFFLED else c for c in column]
                stores.array_of(group, name)[first : self.num_counted] = [getattr(c, name) for c in of]
            if "class_indptr" in group:
                self._save_classes(group, first, start, [c.sample.classes for c in column if c.sample.classes])
            self._written[i] = int(ends[-1])
        self._waiting = []
        state = {**self._identity(), "num_counted": self.num_counted, "written": self._written}
        write_file(self._state, json.dumps(state).encode())
        self._saved_at = time.monotonic()

    def _save_classes(self, group: zarr.Group, first: int, written: int, column: Sequence[ClassCounts]) -> None:
        pairs = self._num_pairs(group, first)
        _extend(group, "num_classes_of", written, [c.num_classes_of for c in column])
        _extend(group, "class_index", pairs, [c.index for c in column])
        _extend(group, "class_counts", pairs, [c.counts for c in column])
        ends = pairs + np.cumsum([len(c.index) for c in column])
        stores.array_of(group, "class_indptr")[first + 1 : self.num_counted + 1] = ends

    @staticmethod
    def _num_pairs(group: zarr.Group, num_counted: int) -> int:
        """Pairs of patterns and classes in the store after so many steps."""
        return int(stores.read(stores.array_of(group, "class_indptr"))[num_counted])

    def finish(self) -> None:
        """Write what is left, and give the store its final name."""
        if self.num_counted != len(self._steps):
            raise RuntimeError(f"finish: {len(self._steps)} steps were announced, {self.num_counted} were counted")
        if self._waiting:
            self._save()
        layers = [dict(group.attrs) for group in self._layers]
        stores.write_array(self._group, "step", self._steps, ("step",))
        stores.write_array(self._group, "epoch", self._epochs, ("step",))
        stores.write_array(self._group, "layer", np.arange(len(layers)), ("layer",))
        stage = stages(*(np.array([layer[name] for layer in layers]) for name in ("height", "width")))
        stores.write_array(self._group, "stage", stage, ("layer",))
        for name in ("layer_name", "num_channels", "num_positions", "height", "width"):
            stores.write_array(self._group, name, np.array([layer[name] for layer in layers]), ("layer",))
        distinct = np.stack([_num_distinct(group) for group in self._layers], axis=1)
        stores.write_array(self._group, "distinct_patterns", distinct, ("step", "layer"))
        channels = np.array([layer["num_channels"] for layer in layers]).tolist()
        collisions = [
            [expected_collisions(patterns, width) for patterns, width in zip(row, channels, strict=True)]
            for row in distinct.tolist()
        ]
        stores.write_array(self._group, "expected_collisions", np.array(collisions), ("step", "layer"))
        stores.finish(self._store, self._final, self._group)
        shutil.rmtree(self._folder, ignore_errors=True)  # what cannot be removed now, as on a networked disk, may stay
        self.close()

    def close(self) -> None:
        """Let another process continue this shard."""
        self._lock.release()


def create_pattern_array(group: zarr.Group, name: str, dtype: np.dtype[Any]) -> zarr.Array:
    """An empty array over patterns, or over pairs of them and classes, with the codec that is best for it.

    Of "keys" and "counts" tests/benchmarks/codecs.py says which. What is said of classes has few values, each of a byte
    or two, and zstd takes it; PCodec does not take bytes.

    PCodec takes the differences of sorted keys by itself; its highest level is slow for keys, but not for counts. Keys
    of 64 bits stand in clusters in trained layers, and their upper bytes repeat: zstd finds that, and PCodec does not.
    """
    level = 12 if name.endswith("counts") else 8
    codec: dict[str, Any] = {"pcodec": {"level": level, "equal_pages_up_to": PAGE_PATTERNS}}
    if name in ("num_classes_of", "class_index"):
        codec = {}
    if name == "keys" and dtype.itemsize == 8:
        whole = CHUNK_PATTERNS * dtype.itemsize  # Blosc's own blocks are smaller, and compress less
        codec = {"blosc": {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "blocksize": whole}}
    dimensions = ("pair",) if name.startswith("class_") else ("pattern",)
    return stores.create_array(
        group, name, shape=(0,), dimensions=dimensions, dtype=dtype, chunks=(CHUNK_PATTERNS,), **codec
    )


def _extend(group: zarr.Group, name: str, start: int, parts: Sequence[NDArray[Any]]) -> None:
    """Write `parts` from `start` on, where the array ends."""
    array = stores.array_of(group, name)
    array.resize((start + sum(map(len, parts)),))
    array[start:] = np.concatenate(parts).astype(array.dtype)


def _num_bytes(counts: PatternCounts) -> int:
    size = counts.keys.nbytes + counts.counts.nbytes
    if (classes := counts.classes) is not None:
        size += classes.num_classes_of.nbytes + classes.index.nbytes + classes.counts.nbytes
    return size


def stages(height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stage of each layer, from 0: a new one begins where the spatial resolution changes.  Shape [layer]."""
    changes = (np.diff(height) != 0) | (np.diff(width) != 0)
    return np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)


def _of_steps(group: zarr.Group) -> list[str]:
    """The arrays of a layer that say one number a step: what is known of all patterns, and of shuffled labels."""
    return [name for name in (*EXACT, SHUFFLED) if name in group]


def _num_distinct(group: zarr.Group) -> NDArray[np.int64]:
    """Distinct patterns of a layer, whether all are kept or not.  Shape [step]."""
    if "num_distinct" in group:
        return stores.read(stores.array_of(group, "num_distinct"))
    return np.diff(stores.read(stores.array_of(group, "indptr")))


def layer_group(layer: int) -> str:
    """Name of a layer's group inside the store."""
    return f"layer{layer:03d}"


def _group(parent: zarr.Group, name: str) -> zarr.Group:
    group = parent[name]
    assert isinstance(group, zarr.Group)
    return group
