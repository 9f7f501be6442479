"""Writing a counts store, step after step, so that a killed job can go on."""

from __future__ import annotations

import json
import shutil
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from reluscope import stores
from reluscope.data.digest import without_new_digest
from reluscope.files import remove
from reluscope.patterns import Counts, PatternCounts, SampledCounts, expected_collisions
from reluscope.resuming import machines

CHUNK_PATTERNS = 1 << 18
PAGE_PATTERNS = 1 << 15
"""Patterns that PCodec fits itself to at a time: several steps may share a chunk."""

SAVE_SECONDS = 60.0
SAVE_BYTES = 1 << 28
"""Counted steps are saved when a minute has passed or 256 MB are waiting, whatever comes first."""

STATE = "state.json"
"""Beside an unfinished store: what is in it so far, and what it was begun with."""

MACHINE = ("device", "threads", "batches_at_once")
"""Attributes that may differ among counts of one run."""

NOT_COUNTED = "not_counted"
"""The attribute that lists what has the shape of an activation and is in no layer: name, operation, reason."""

CHANGING = ("height", "width", "num_positions")
"""What a layer may have another of at each step, where its positions do not lie image by image: 0 if it has."""

_FORMAT = 2  # of the state

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


class CountsWriter:
    """Appends the counts of step after step to an unfinished store in `folder`, and renames it to `final` at the end.

    Opened on a folder that a killed job left, it continues there: `steps` are already there.

    Per layer the patterns of all steps stand one after the other (CSR): those of the i-th step are
    ``keys[indptr[i]:indptr[i + 1]]`` and ``counts[indptr[i]:indptr[i + 1]]``. Where only samples are kept, arrays over
    the steps say what is known exactly of all patterns (`EXACT`).

    Where labels were counted, ``num_classes_of`` says in how many classes each pattern occurs, and the pairs of a
    pattern and such a class stand one after the other: those of the i-th step are ``class_index`` and ``class_counts``
    from ``class_indptr[i]`` to ``class_indptr[i + 1]`` (`reluscope.patterns.ClassCounts`).

    Args:
        folder: where the unfinished store is kept.
        final: the finished store's name.
        attributes: what was counted and how, JSON types.
        source: what is counted, a weights store or a manifest; None where the weights pass by and are not kept.

    Attributes:
        steps: those appended, ascending.

    A folder left by a job with other attributes, or over weights that were made again since, or that lost a chunk, is
    started anew, because counts can be made again. Where they cannot, without a source, it is refused.

    Raises:
        StoreError: another process writes here, or the folder is refused.
    """

    def __init__(self, folder: Path, final: Path, attributes: Mapping[str, Any], source: Path | None = None) -> None:
        self._folder, self._final = folder, final
        coordinates = "step epoch layer layer_name stage num_channels num_positions height width"
        self._attributes = {"kind": "counts", "coordinates": coordinates, **attributes}
        self._given = self._attributes
        self._source = None if source is None else _made(source)
        self._lock = stores.lock(folder, "counting here")
        self._store, self._state = folder / "counts.zarr", folder / STATE
        try:
            if not self._resume():
                self._start()
        except BaseException:
            self._lock.release()
            raise
        self._saved_at = time.monotonic()

    def _start(self) -> None:
        self.steps: list[int] = []
        self._epochs: list[float] = []
        self._layers: list[_Layer] = []
        self._waiting: list[list[PatternCounts]] = []  # what is kept of steps that are not in the store yet
        remove(self._state)  # first: it must never speak of another store than its own
        self._group = stores.create_group(self._store, self._attributes)

    def _resume(self) -> bool:
        if not self._state.is_file():
            return False
        try:
            state = json.loads(self._state.read_text())
            if not state["steps"]:
                return False  # there is nothing to go on from, and nothing to lose
            self._continue(state)
        except stores.StoreError as error:
            if self._source is not None:
                return False  # what was lost, or is another's, can be counted again
            raise stores.StoreError(
                f"{self._folder}: cannot be continued: {error}; restore that, or delete the folder to begin anew"
            ) from error
        return True

    def _continue(self, state: Mapping[str, Any]) -> None:
        if different := stores.difference(state, {"format": _FORMAT, "source": self._source}):
            raise stores.StoreError(f"it was begun with {different}")
        now = without_new_digest({**dict.fromkeys(state["attributes"]), **self._attributes}, state["attributes"])
        if self._source is None:  # another machine may go on with what only its training makes
            now = {name: value for name, value in now.items() if name not in (*MACHINE, "versions", "resumed")}
        if different := stores.difference(state["attributes"], now):
            raise stores.StoreError(f"it was begun with {different}")
        if not self._store.exists():
            raise stores.StoreError(f"{self._store} is missing")
        self._group = stores.reopen_group(self._store, self._state)
        self.steps, self._epochs, self._waiting = state["steps"], state["epochs"], []
        if self._source is None:
            self._go_on_here(state["attributes"])
        self._layers = [
            _Layer(
                _group(self._group, layer_group(i)),
                layer["ends"],
                layer["pair_ends"],
                layer["of_steps"],
                layer.get(NUM_NAN, [UNKNOWN] * len(self.steps)),  # earlier versions did not count them
            )
            for i, layer in enumerate(state["layers"])
        ]
        for layer in self._layers:
            if POSITIONS not in layer.of_steps:  # begun when there had to be as many at each step
                layer.of_steps[POSITIONS] = [layer.described["num_positions"]] * len(self.steps)
            for name, ends in layer.growing.items():
                stores.require_chunks(stores.array_of(layer.group, name), _last(ends))

    def _go_on_here(self, begun: Mapping[str, Any]) -> None:
        """Note in the store, as ``resumed``, on which machine and with which versions it goes on, where they differ."""
        changes, _ = machines(begun, self._attributes, (*MACHINE, "versions"), self.steps[-1])
        self._attributes = {**begun, "resumed": changes} if changes else dict(begun)
        if changes != self._group.attrs.get("resumed", []):
            self._group.attrs["resumed"] = changes

    def append(self, step: int, epoch: float, layers: Sequence[Counts]) -> None:
        """Add a step's counts, one a layer.

        Raises:
            ValueError: the step is not after the last one, or has other layers than the first one.
        """
        if self.steps and step <= self.steps[-1]:
            raise ValueError(f"step {step:,}: expected one after the last, step {self.steps[-1]:,}")
        if not self._layers:
            self._layers = [_create_layer(self._group, i, counts) for i, counts in enumerate(layers)]
        known = [layer.described for layer in self._layers]
        for i, (then, now) in enumerate(zip_longest(known, map(_described, layers))):
            if then is None or now is None or not _fits(then, now):
                expected = f"expected {_in_words(then)} as at the first step, but got {_in_words(now)}"
                raise ValueError(f"step {step:,}, layer {i}: {expected}")
        for layer, counts in zip(self._layers, layers, strict=True):
            layer.keep_in_common(_described(counts))
            layer.ends.append(_last(layer.ends) + len(counts.sample.keys))
            if (classes := counts.sample.classes) is not None:
                layer.pair_ends.append(_last(layer.pair_ends) + len(classes.index))
            for name, values in layer.of_steps.items():
                values.append(getattr(counts, name))
            layer.num_nan.append(UNKNOWN if counts.num_nan is None else counts.num_nan)
        self._waiting.append([counts.sample for counts in layers])
        self.steps.append(step)
        self._epochs.append(epoch)
        size = sum(_num_bytes(counts) for kept in self._waiting for counts in kept)
        if size > SAVE_BYTES or time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()

    def note_not_counted(self, not_counted: Sequence[Mapping[str, str]]) -> None:
        """Keep what has the shape of an activation and is in no layer (`NOT_COUNTED`), beside what was noted before."""
        attributes: dict[str, Any] = dict(self._group.attrs)
        noted = attributes.get(NOT_COUNTED)
        if noted is None or any(one not in noted for one in not_counted):
            self._group.attrs[NOT_COUNTED] = [*(noted or []), *(one for one in not_counted if one not in (noted or []))]

    def save(self) -> None:
        """Put every step on the disk, so that no kill loses it."""
        num_saved = len(self.steps) - len(self._waiting)
        for i, layer in enumerate(self._layers):
            for name, ends in layer.growing.items():
                array = stores.array_of(layer.group, name)
                _resize(array, _last(ends))
                if self._waiting:
                    values = np.concatenate([_values(kept[i], name) for kept in self._waiting])
                    array[_last(ends[:num_saved]) :] = values.astype(array.dtype)
        self._waiting = []
        self._write_state()
        self._saved_at = time.monotonic()

    def _write_state(self) -> None:
        names = ("ends", "pair_ends", "of_steps", NUM_NAN)
        layers = [{name: getattr(layer, name) for name in names} for layer in self._layers]
        begun_with = {"format": _FORMAT, "source": self._source, "attributes": self._attributes}
        state = {**begun_with, "steps": self.steps, "epochs": self._epochs, "layers": layers}
        stores.write_state(self._group, self._state, json.dumps(state).encode())

    def rewind(self, step: int) -> None:
        """Forget what was appended from `step` on."""
        num_saved, kept = len(self.steps) - len(self._waiting), bisect_left(self.steps, step)
        del self.steps[kept:], self._epochs[kept:]
        for layer in self._layers:
            for column in (layer.ends, layer.pair_ends, layer.num_nan, *layer.of_steps.values()):
                del column[kept:]
        del self._waiting[max(kept - num_saved, 0) :]
        if "resumed" in self._attributes:
            self._make_elsewhere()
        if kept < num_saved:
            self._write_state()  # now: it must not promise what the next steps are written over

    def _make_elsewhere(self) -> None:
        """After steps were forgotten: those that take their place are made on the last machine, the one here."""
        if self.steps:
            *earlier, last = self._attributes["resumed"]
            last = {**last, "step": min(last["step"], self.steps[-1])}
            changes = [change for change in earlier if change["step"] < last["step"]]
            self._attributes = {**self._attributes, "resumed": [*changes, last]}
        else:
            self._attributes = self._given
        self._group.attrs.put(self._attributes)

    def finish(self) -> None:
        """Write what is left, and give the store its final name.

        Raises:
            RuntimeError: there is no step.
        """
        if not self.steps:
            raise RuntimeError(f"{self._final}: expected at least one counted step, got none")
        self.save()
        stores.write_array(self._group, "step", np.array(self.steps, np.int64), ("step",))
        stores.write_array(self._group, "epoch", np.array(self._epochs, np.float64), ("step",))
        stores.write_array(self._group, "layer", np.arange(len(self._layers)), ("layer",))
        described = [layer.described for layer in self._layers]
        stage = stages(*(np.array([layer[name] for layer in described]) for name in ("height", "width")))
        stores.write_array(self._group, "stage", stage, ("layer",))
        for name in ("layer_name", "num_channels", "num_positions", "height", "width"):
            stores.write_array(self._group, name, np.array([layer[name] for layer in described]), ("layer",))
        for layer in self._layers:
            stores.write_array(layer.group, "indptr", np.array([0, *layer.ends], np.int64), ("edge",))
            if layer.pair_ends:
                stores.write_array(layer.group, "class_indptr", np.array([0, *layer.pair_ends], np.int64), ("edge",))
            for name, values in layer.of_steps.items():
                if name != POSITIONS or len(set(values)) > 1:
                    stores.write_array(layer.group, name, np.array(values, OF_STEPS[name]), ("step",))
        distinct = [layer.num_distinct for layer in self._layers]
        collisions = [
            [expected_collisions(patterns, layer["num_channels"]) for patterns in column]
            for column, layer in zip(distinct, described, strict=True)
        ]
        stores.write_array(self._group, "distinct_patterns", np.array(distinct, np.int64).T, ("step", "layer"))
        num_nan = [layer.num_nan for layer in self._layers]
        stores.write_array(self._group, NUM_NAN, np.array(num_nan, np.int64).T, ("step", "layer"))
        stores.write_array(self._group, "expected_collisions", np.array(collisions).T, ("step", "layer"))
        stores.finish(self._store, self._final, self._group)
        shutil.rmtree(self._folder, ignore_errors=True)  # what cannot be removed now, as on a networked disk, may stay
        self.close()

    def close(self) -> None:
        """Let another process continue here."""
        self._lock.release()


@dataclass(frozen=True, eq=False)
class _Layer:
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


def _create_layer(store: zarr.Group, index: int, counts: Counts) -> _Layer:
    described = _described(counts)
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
    return _Layer(group, [], [], {name: [] for name in of_steps}, [])


def _last(ends: Sequence[int]) -> int:
    return ends[-1] if ends else 0


def _values(counts: PatternCounts, name: str) -> NDArray[Any]:
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


def _described(counts: Counts) -> dict[str, Any]:
    """What does not change from step to step."""
    names = ("layer_name", "num_channels", "key_kind", "num_positions", "height", "width", "channel_axis", "bit")
    return {name: getattr(counts, name) for name in names}


def _fits(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether these are one layer at two steps: positions may be others where they do not lie image by image."""
    fixed = set(then) - set(CHANGING) if 0 in (then["height"], now["height"]) else set(then)
    return all(then[name] == now.get(name) for name in fixed)


def _in_words(described: Mapping[str, Any] | None) -> str:
    if described is None:
        return "none"
    return "{layer_name!r} with {num_channels} channels, {height} x {width}, {num_positions:,} positions".format(
        **described
    )


def _resize(array: zarr.Array, length: int) -> None:
    """Cut off what steps had that were forgotten, leaving the bytes as if they had never been there; or make room."""
    (before,), (chunk,) = array.shape, array.chunks
    if before > length:
        array[length : min(-(-length // chunk) * chunk, before)] = 0
    if before != length:
        array.resize((length,))


def _made(source: Path) -> list[int]:
    """What tells a store or file from another one that took its place."""
    status = (source / "zarr.json" if source.is_dir() else source).stat()
    return [status.st_ino, status.st_mtime_ns]


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


def _num_bytes(counts: PatternCounts) -> int:
    size = counts.keys.nbytes + counts.counts.nbytes
    if (classes := counts.classes) is not None:
        size += classes.num_classes_of.nbytes + classes.index.nbytes + classes.counts.nbytes
    return size


def stages(height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stage of each layer, from 0: a new one begins where the spatial resolution changes.  Shape [layer]."""
    changes = (np.diff(height) != 0) | (np.diff(width) != 0)
    return np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)


def layer_group(layer: int) -> str:
    """Name of a layer's group inside the store."""
    return f"layer{layer:03d}"


def _group(parent: zarr.Group, name: str) -> zarr.Group:
    group = parent[name]
    assert isinstance(group, zarr.Group)
    return group
