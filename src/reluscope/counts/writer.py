"""Writing a counts store, step after step, so that a killed job can go on."""

from __future__ import annotations

import json
import shutil
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from reluscope import stores
from reluscope.counts.layout import (
    MACHINE,
    NOT_COUNTED,
    NUM_NAN,
    OF_STEPS,
    POSITIONS,
    UNKNOWN,
    StoredLayer,
    create_layer,
    describe,
    fits,
    group_of_layer,
    in_words,
    last,
    stages,
    values_of,
)
from reluscope.data.digest import without_new_digest
from reluscope.files import remove
from reluscope.patterns import Counts, PatternCounts, expected_collisions
from reluscope.resuming import machines

SAVE_SECONDS = 60.0
SAVE_BYTES = 1 << 28
"""Counted steps are saved when a minute has passed or 256 MB are waiting, whatever comes first."""

STATE = "state.json"
"""Beside an unfinished store: what is in it so far, and what it was begun with."""

_FORMAT = 2  # of the state


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
        self._layers: list[StoredLayer] = []
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
            StoredLayer(
                group_of_layer(self._group, i),
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
                stores.require_chunks(stores.array_of(layer.group, name), last(ends))

    def _go_on_here(self, begun: Mapping[str, Any]) -> None:
        """Note in the store, as ``resumed``, on which machine and with which versions it goes on, where they differ."""
        changes, _ = machines(begun, self._attributes, (*MACHINE, "versions"), self.steps[-1])
        settings = {name: value for name, value in begun.items() if name != "resumed"}
        self._attributes = {**settings, "resumed": changes} if changes else settings
        if changes != self._group.attrs.get("resumed", []):
            self._put_attributes()

    def append(self, step: int, epoch: float, layers: Sequence[Counts]) -> None:
        """Add a step's counts, one a layer.

        Raises:
            ValueError: the step is not after the last one, or has other layers than the first one.
        """
        if self.steps and step <= self.steps[-1]:
            raise ValueError(f"step {step:,}: expected one after the last, step {self.steps[-1]:,}")
        if not self._layers:
            self._layers = [create_layer(self._group, i, counts) for i, counts in enumerate(layers)]
        known = [layer.described for layer in self._layers]
        for i, (then, now) in enumerate(zip_longest(known, map(describe, layers))):
            if then is None or now is None or not fits(then, now):
                expected = f"expected {in_words(then)} as at the first step, but got {in_words(now)}"
                raise ValueError(f"step {step:,}, layer {i}: {expected}")
        for layer, counts in zip(self._layers, layers, strict=True):
            layer.keep_in_common(describe(counts))
            layer.ends.append(last(layer.ends) + len(counts.sample.keys))
            if (classes := counts.sample.classes) is not None:
                layer.pair_ends.append(last(layer.pair_ends) + len(classes.index))
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
                _resize(array, last(ends))
                if self._waiting:
                    values = np.concatenate([values_of(kept[i], name) for kept in self._waiting])
                    array[last(ends[:num_saved]) :] = values.astype(array.dtype)
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
        self._put_attributes()

    def _put_attributes(self) -> None:
        """Those of the store, beside what was noted of its layers."""
        noted = {name: value for name, value in self._group.attrs.items() if name == NOT_COUNTED}
        self._group.attrs.put({**self._attributes, **noted})

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


def _num_bytes(counts: PatternCounts) -> int:
    size = counts.keys.nbytes + counts.counts.nbytes
    if (classes := counts.classes) is not None:
        size += classes.num_classes_of.nbytes + classes.index.nbytes + classes.counts.nbytes
    return size
