"""Reading counts stores: the shards of a run as one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from reluscope import stores
from reluscope.counts.layout import (
    CHANGING,
    EXACT,
    MACHINE,
    NOT_COUNTED,
    NUM_NAN,
    POSITIONS,
    SHUFFLED,
    UNKNOWN,
    layer_group,
)
from reluscope.data.digest import ATTRIBUTE, require_same_data
from reluscope.patterns import ClassCounts, Counts, PatternCounts, SampledCounts, class_dtype, parse_sample

READ_PATTERNS = 1 << 23
"""Patterns that are read at a time: several steps where they are short, at least one."""

_Values = NDArray[Any] | Callable[[], NDArray[Any]]


class CountsStore:
    """The counts of one run at its counted steps.

    Attributes:
        steps: int64, shape [step], ascending.
        epochs: the same in epochs, float64, shape [step].
        layer_names: in forward order.
        num_channels: int64, shape [layer].
        num_positions, height, width: int64, shape [layer]; 0 where they are not the same at all steps.
        stage: int64, shape [layer], from 0: a new one begins where the spatial resolution changes.
        num_nan: how many pre-activations were NaN, -1 where that was not counted; int64, shape [step, layer].
        one_in: the stores keep 1 / one_in of pattern space; 1 where they keep all.
        class_names: of the classes that the stores tell apart; None where they tell none.
        attributes: what was counted and how.
        not_counted: what has the shape of an activation and is in no layer, with name, operation and reason; None where
            a store was made before these were kept.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        if not paths:
            raise stores.StoreError("expected at least one counts store, got none")
        opened = [(os.fspath(path), stores.open_store(path, "counts")) for path in paths]
        opened.sort(key=lambda shard: int(_values(shard[1], "step")[0]))
        self._shards = [group for _, group in opened]
        first_path, first = opened[0]
        for path, group in opened[1:]:
            if different := _difference(first, group):
                raise stores.StoreError(
                    f"{path} does not belong together with {first_path}: they differ in {different}"
                )
        require_same_data({path: group.attrs for path, group in opened})
        for (before, earlier), (path, later) in itertools.pairwise(opened):
            if (step := int(_values(later, "step")[0])) <= int(_values(earlier, "step")[-1]):
                raise stores.StoreError(f"{path}: begins at step {step}, which is not after all of {before}")
        self.attributes: dict[str, Any] = dict(first.attrs)
        self.one_in = parse_sample(self.attributes["sample"]) if "sample" in self.attributes else 1
        self.class_names: list[str] | None = self.attributes.get("class_names")
        for _, group in opened:
            stores.require_ascending(group, "step")
        self.not_counted = _not_counted([dict(group.attrs) for group in self._shards])
        self.steps: NDArray[np.int64] = np.concatenate([_values(g, "step") for g in self._shards])
        self.epochs: NDArray[np.float64] = np.concatenate([_values(g, "epoch") for g in self._shards])
        self.layer_names: list[str] = _values(first, "layer_name").tolist()
        self.num_nan: NDArray[np.int64] = np.concatenate([_num_nan(group) for group in self._shards])
        self.num_channels, self.stage = _values(first, "num_channels"), _values(first, "stage")
        self.num_positions, self.height, self.width = (
            _in_common([_values(group, name) for group in self._shards])
            for name in ("num_positions", "height", "width")
        )

    def over_time(
        self, layer: int, chosen: NDArray[np.bool_] | None = None, *, classes: bool = False
    ) -> Iterator[Counts]:
        """One layer's counts at every counted step, in order; each chunk is read about once, when it is asked for.

        Args:
            chosen: which of the steps; all without it. Shape [step].
            classes: read the counts per class too, where there are some.
        """
        first_index = 0
        for shard in range(len(self._shards)):
            keys, counts, indptr = self._arrays(shard, layer)
            exact, about = self._exact(shard, layer), self._about(shard, layer)
            size = indptr  # of what is read, up to each step
            if classes and self.class_names is not None:
                size = indptr + _values(self._group(shard, layer), "class_indptr")
            wanted = (
                np.ones(len(indptr) - 1, bool)
                if chosen is None
                else chosen[first_index : first_index + len(indptr) - 1]
            )
            here = self.steps[first_index : first_index + len(wanted)]
            num_nan = self.num_nan[first_index : first_index + len(wanted), layer]
            first_index += len(wanted)
            rows = np.flatnonzero(wanted).tolist()
            while rows:
                # as many whole steps as fit, at least one
                start, first = int(indptr[rows[0]]), rows[0]
                taken = [row for row in rows if row == first or size[row + 1] <= size[first] + READ_PATTERNS]
                rows = rows[len(taken) :]
                ends = indptr[taken[0] : taken[-1] + 2]
                steps = here[[taken[0], taken[-1]]]
                # of all that are taken at once, when one of them is asked for them
                read_keys, read_counts = (cache(partial(self._read, of, ends, layer, steps)) for of in (keys, counts))
                of_classes = self._classes(shard, layer, taken) if classes else [{} for _ in taken]
                for row, of_class in zip(taken, of_classes, strict=True):
                    part = slice(int(indptr[row]) - start, int(indptr[row + 1]) - start)
                    of_row = partial(_part, read_keys, part), partial(_part, read_counts, part)
                    of_class[NUM_NAN] = _known(num_nan[row])
                    yield self._counts(layer, *of_row, part.stop - part.start, {**about, **of_class}, exact, row)

    def at(self, index: int, layer: int, *, classes: bool = False) -> Counts:
        """One layer's counts at the `index`-th counted step, read when asked for; negative indices count from the end.

        Args:
            classes: read the counts per class too, where there are some.
        """
        index = range(len(self.steps))[index]
        lengths = np.cumsum([len(_values(g, "step")) for g in self._shards])
        shard = int(np.searchsorted(lengths, index, side="right"))
        row = index - (int(lengths[shard - 1]) if shard else 0)
        keys, counts, indptr = self._arrays(shard, layer)
        span = slice(int(indptr[row]), int(indptr[row + 1]))
        steps = self.steps[index : index + 1]
        ends = indptr[row : row + 2]
        read_keys, read_counts = (partial(self._read, of, ends, layer, steps) for of in (keys, counts))
        of_class = self._classes(shard, layer, [row])[0] if classes else {}
        about = {**self._about(shard, layer), NUM_NAN: _known(self.num_nan[index, layer])}
        exact = self._exact(shard, layer)
        size = span.stop - span.start
        return self._counts(layer, read_keys, read_counts, size, {**about, **of_class}, exact, row)

    def _classes(self, shard: int, layer: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        """What a shard's rows say of the classes, which few ask for; nothing where there are none."""
        group = self._group(shard, layer)
        if self.class_names is None:
            return [{} for _ in rows]
        first, last = rows[0], rows[-1] + 1
        indptr, class_indptr = _values(group, "indptr"), _values(group, "class_indptr")
        shuffled = _values(group, SHUFFLED) if SHUFFLED in group else None
        patterns, pairs = (slice(int(ends[first]), int(ends[last])) for ends in (indptr, class_indptr))
        steps = _values(self._shards[shard], "step")[[first, last - 1]]
        num_classes_of, index, counts = (
            stores.read(stores.array_of(group, name), span, steps=steps)
            for name, span in (("num_classes_of", patterns), ("class_index", pairs), ("class_counts", pairs))
        )
        num_classes_of, index = (of.astype(class_dtype(len(self.class_names))) for of in (num_classes_of, index))
        of_rows: list[dict[str, Any]] = []
        for row in rows:
            here, there = (
                slice(int(ends[row] - ends[first]), int(ends[row + 1] - ends[first])) for ends in (indptr, class_indptr)
            )
            arrays = (_unwritable(of[part]) for of, part in ((num_classes_of, here), (index, there), (counts, there)))
            classes = ClassCounts(len(self.class_names), *arrays)
            entropy = None if shuffled is None else float(shuffled[row])
            of_rows.append({"classes": classes, "shuffled_joint_entropy": entropy})
        return of_rows

    def _arrays(self, shard: int, layer: int) -> tuple[zarr.Array, zarr.Array, NDArray[np.int64]]:
        group = self._group(shard, layer)
        keys, counts = stores.array_of(group, "keys"), stores.array_of(group, "counts")
        indptr = _values(group, "indptr")
        num_steps = len(_values(self._shards[shard], "step"))
        if len(indptr) != num_steps + 1 or indptr[0] or (np.diff(indptr) < 0).any() or indptr[-1] != keys.shape[0]:
            raise stores.misplaced(stores.array_of(group, "indptr"), "its ends do not fit steps and keys")
        return keys, counts, indptr

    def _read(self, array: zarr.Array, ends: NDArray[np.int64], layer: int, steps: NDArray[np.int64]) -> NDArray[Any]:
        """Keys or counts of neighbouring steps, the i-th from ends[i] to ends[i + 1].

        Where it is not known which file is which, as in stores made before they kept it, contents must fit.
        """
        values = stores.read(array, slice(int(ends[0]), int(ends[-1])), steps=steps)
        if stores.is_placement_known(array) or not len(values):
            return values
        starts, stops = (ends[:-1] - ends[0]).tolist(), (ends[1:] - ends[0]).tolist()
        if array.basename == "keys":
            falls = np.flatnonzero(values[1:] <= values[:-1]) + 1
            if not np.isin(falls, starts).all():
                raise stores.misplaced(array, "keys are not ascending", steps)
        elif not values.min():
            raise stores.misplaced(array, "counts of 0", steps)
        elif self.one_in == 1 and any(
            self.num_positions[layer] not in (0, values[start:stop].sum(dtype=np.int64))
            for start, stop in zip(starts, stops, strict=True)
        ):
            raise stores.misplaced(array, "counts do not add up to the number of positions", steps)
        return values

    def _exact(self, shard: int, layer: int) -> dict[str, NDArray[Any]]:
        """What a store of samples keeps of all patterns; nothing where it keeps all.  Each of shape [step]."""
        if self.one_in == 1:
            return {}
        group, num_steps = self._group(shard, layer), len(_values(self._shards[shard], "step"))
        positions = np.full(num_steps, _values(self._shards[shard], "num_positions")[layer])
        exact = {name: _values(group, name) for name in EXACT}
        return exact | {POSITIONS: _values(group, POSITIONS) if POSITIONS in group else positions}

    def _about(self, shard: int, layer: int) -> dict[str, Any]:
        """What a layer's counts say beside the tables of all layers; stores made earlier say less."""
        attributes = self._group(shard, layer).attrs
        return {name: attributes[name] for name in ("channel_axis", "bit") if name in attributes}

    def _group(self, shard: int, layer: int) -> zarr.Group:
        group = self._shards[shard][layer_group(layer)]
        assert isinstance(group, zarr.Group)
        return group

    def _counts(
        self,
        layer: int,
        read_keys: Callable[[], NDArray[Any]],
        read_counts: Callable[[], NDArray[Any]],
        num_distinct: int,
        about: dict[str, Any],
        exact: dict[str, NDArray[Any]],
        row: int,
    ) -> Counts:
        kept = _StoredCounts(
            layer_name=self.layer_names[layer],
            keys=read_keys,
            counts=read_counts,
            num_distinct=num_distinct,
            num_channels=int(self.num_channels[layer]),
            height=int(self.height[layer]),
            width=int(self.width[layer]),
            **about,
        )
        if not exact:
            return kept
        of_all = {name: values[row].item() for name, values in exact.items()}
        return SampledCounts(kept, self.one_in, **of_all, num_nan=kept.num_nan)

    def __repr__(self) -> str:
        return (
            f"CountsStore({len(self.steps)} steps, {self.steps[0]} to {self.steps[-1]}, {len(self.layer_names)} layers)"
        )


class _StoredCounts(PatternCounts):
    """Patterns whose keys and counts are read when asked for: many measures do without the ones or the others.

    No array can be written to, because several measures may be given it.
    """

    _read_keys: Callable[[], NDArray[Any]]
    _read_counts: Callable[[], NDArray[Any]]
    _num_distinct: int | None

    def __init__(self, *, keys: _Values, counts: _Values, num_distinct: int | None = None, **others: Any) -> None:
        super().__init__(keys=keys, counts=counts, **others)  # type: ignore[arg-type]
        self.__dict__["_num_distinct"] = num_distinct
        for name, values in (("keys", keys), ("counts", counts)):
            if callable(values):
                self.__dict__[f"_read_{name}"] = self.__dict__.pop(name)

    @cached_property
    def keys(self) -> NDArray[Any]:  # type: ignore[override]
        return _unwritable(self._read_keys())

    @cached_property
    def counts(self) -> NDArray[np.int64]:  # type: ignore[override]
        return _unwritable(self.narrow_counts.astype(np.int64))

    @cached_property
    def narrow_counts(self) -> NDArray[np.integer]:
        return _unwritable(self._read_counts()) if "_read_counts" in self.__dict__ else self.counts

    @property
    def num_distinct(self) -> int:
        return super().num_distinct if self._num_distinct is None else self._num_distinct

    def __getstate__(self) -> dict[str, Any]:
        read = {"keys": self.keys, "counts": self.counts}  # before it travels to another process
        left = {"_read_keys", "_read_counts", "narrow_counts"}
        return {name: value for name, value in self.__dict__.items() if name not in left} | read


def open_counts(*paths: str | os.PathLike[str]) -> CountsStore:
    """Open the shards of one run, in any order, as one.

    Raises:
        StoreError: one is missing or unfinished, they do not belong to one run, or have steps in common.
    """
    return CountsStore(*paths)


def _unwritable(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _part(read: Callable[[], NDArray[Any]], part: slice) -> NDArray[Any]:
    return read()[part]


def _values(group: zarr.Group, name: str) -> NDArray[Any]:
    return stores.read(stores.array_of(group, name))


def _num_nan(shard: zarr.Group) -> NDArray[np.int64]:
    """Shape [step, layer]; of a store made before NaN was counted, nothing is known."""
    if NUM_NAN in shard:
        return _values(shard, NUM_NAN)
    return np.full((len(_values(shard, "step")), len(_values(shard, "layer_name"))), UNKNOWN, np.int64)


def _known(num_nan: np.int64) -> int | None:
    return None if num_nan == UNKNOWN else int(num_nan)


def _not_counted(shards: Sequence[dict[str, Any]]) -> list[dict[str, str]] | None:
    """Of all shards; None where one does not know."""
    if any(NOT_COUNTED not in attributes for attributes in shards):
        return None
    found = dict.fromkeys(tuple(one.items()) for attributes in shards for one in attributes[NOT_COUNTED])
    return [dict(items) for items in found]


def _difference(one: zarr.Group, other: zarr.Group) -> str | None:
    """The first attribute or layer table in which two shards differ; None where they fit together."""
    others = {"steps", "files", "sha256", "manifest", "resumed", ATTRIBUTE, NOT_COUNTED, *MACHINE}
    keys = sorted({*one.attrs, *other.attrs} - others)
    attributes = [key for key in keys if one.attrs.get(key) != other.attrs.get(key)]
    tables = [
        name
        for name in ("layer_name", "num_channels", "height", "width", "num_positions")
        if not _fit(one, other, name)
    ]
    return next(iter(attributes + tables), None)


def _fit(one: zarr.Group, other: zarr.Group, name: str) -> bool:
    """Whether a layer table is the same in two shards, where both know."""
    ours, theirs = _values(one, name), _values(other, name)
    if ours.shape != theirs.shape:
        return False
    changes = (_values(one, "height") == 0) | (_values(other, "height") == 0)
    return bool(((ours == theirs) | (changes & (name in CHANGING))).all())


def _in_common(tables: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """What shards say of each layer; 0 where not all say the same."""
    return np.where(np.all([table == tables[0] for table in tables], axis=0), tables[0], 0)
