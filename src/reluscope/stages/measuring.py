"""Stage three, first half: compute measures of a run, several in one pass over its counts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reluscope import measures, stores
from reluscope.counts import CountsStore, open_counts
from reluscope.data.digest import ATTRIBUTE
from reluscope.imports import in_one_line
from reluscope.measures import Estimate
from reluscope.patterns import Counts
from reluscope.series import MeasureSeries, write_series
from reluscope.study import MeasureSpec, measuring_settings

_FEW_LAYERS = 3  # named in one line


def measure_run(wanted: Mapping[str, MeasureSpec], shards: Sequence[str], *, progress: bool = False) -> None:
    """Compute measures, each at its steps and at every layer of a run, and write the stores.

    Args:
        wanted: the measures by the paths of their stores.
        shards: all counts stores of the run.
        progress: show a bar over the layers and steps, if standard error is a terminal.
    """
    counts = open_counts(*shards)
    tell_nan(counts, wanted.values())
    series = compute(list(wanted.values()), counts, progress=progress)
    for (output, spec), computed in zip(wanted.items(), series, strict=True):
        write(computed, output, spec, counts)


def write(series: MeasureSeries, output: str, spec: MeasureSpec, counts: CountsStore) -> None:
    """Write what was computed of the counts, with what determined it."""
    names = ("run", "training", "checkpoints", "batch_size", "sample", "labels", ATTRIBUTE, "versions")
    kept = {name: counts.attributes[name] for name in names if name in counts.attributes}
    write_series(series, Path(output), {**measuring_settings(spec), **kept})


def compute(specs: Sequence[MeasureSpec], counts: CountsStore, *, progress: bool = False) -> list[MeasureSeries]:
    """Measures of a run over time and layers; NaN where one needs the step before its first.

    Each layer's counts of a step are read once, and given to every measure of that step.

    Raises:
        ValueError: one needs classes, and none were counted; it raised something, or returned what is no number.
    """
    computations = [Computation(spec, counts) for spec in specs]
    total = len(counts.layer_names) * sum(int(one.chosen.sum()) for one in computations)
    name = specs[0].function if len(specs) == 1 else f"{len(specs)} measures"
    bar = tqdm(total=total, desc=name, unit="value", disable=None if progress else True)
    for layer in range(len(counts.layer_names)):
        compute_layer(computations, counts, layer, bar)
    bar.close()
    return [one.series() for one in computations]


def compute_layer(
    computations: Sequence[Computation], counts: CountsStore, layer: int, bar: tqdm[Never] | None = None
) -> None:
    """Compute measures of one layer over time; its counts of a step are read once, and given to all of them."""
    by_class = any(one.needs & measures.OF_CLASSES for one in computations)
    chosen = np.any([one.chosen for one in computations], axis=0)
    ends = {end for one in computations for end in one.ends.values()}
    read = {index: counts.at(index, layer, classes=by_class) for index in ends}
    for one in computations:
        one.begin(layer, read)
    for index, now in _over_time(counts, layer, chosen, read, classes=by_class):
        for one in computations:
            if one.chosen[index]:
                one.take(now)
                if bar is not None:
                    bar.update()


class Computation:
    """One measure of a run, which is given one layer's counts after the other, and of each layer step after step.

    Attributes:
        name: the measure's.
        needs: what the measure takes beside the counts.
        ends: of these the first and the last counted step, by their indices.
        chosen: the steps at which it is computed, shape [step].
        values: what is computed so far, else NaN. Shape [chosen step, layer], or [chosen step, layer, class].
        errors: their standard errors, shape [chosen step, layer].
    """

    def __init__(self, spec: MeasureSpec, counts: CountsStore) -> None:
        try:
            measures.check_labels(spec.function, counts.attributes.get("labels", False))
        except ValueError as error:
            raise ValueError(
                f"{spec.function}: {error}, or `reluscope count --labels`, which these counts were made without"
            ) from error
        self.name = spec.function
        self._spec, self._counts, self._measure = spec, counts, measures.find(spec.function)
        self.needs = self._measure.needs
        self.ends = {
            need: index for need, index in (("initial", 0), ("final", len(counts.steps) - 1)) if need in self.needs
        }
        if len(missing := np.setdiff1d(spec.steps, counts.steps)):
            raise ValueError(f"{spec.function}: expected counts of step {missing[0]:,}, but they are of {counts}")
        self.chosen: NDArray[np.bool_] = np.isin(counts.steps, spec.steps)
        is_per_class = measures.is_per_class(spec.function, spec.options)
        self._class_names = counts.class_names if is_per_class else None
        shape = (int(self.chosen.sum()), len(counts.layer_names))
        self.values = np.full(shape if self._class_names is None else (*shape, len(self._class_names)), np.nan)
        self.errors = np.full(shape, np.nan)

    def begin(self, layer: int, read: Mapping[int, Counts]) -> None:
        """Go on with a layer, of whose counts the ends are read."""
        self._layer, self._row = layer, 0
        self._given = {need: read[index] for need, index in self.ends.items()}

    def take(self, now: Counts) -> None:
        """Compute it at the layer's next chosen step."""
        place = self._row, self._layer
        if "previous" not in self.needs or self._row > 0:
            result = self._result(now)
            if not isinstance(result, Estimate):
                result = Estimate(result, 0.0)
            self.values[place], self.errors[place] = self._checked(result.value), result.standard_error
        self._row += 1
        if "previous" in self.needs:
            self._given["previous"] = now

    def _result(self, now: Counts) -> Any:
        """Of the measure's function, through which every measure of a layer goes; NaN where there were NaN."""
        if not self._spec.keep_nan and any(counts.num_nan for counts in (now, *self._given.values())):
            return Estimate(math.nan, math.nan)
        of_classes = {name: getattr(now, name) for name in self.needs & measures.OF_CLASSES}
        try:
            return self._measure.function(counts=now, **of_classes, **self._given, **self._spec.options)
        except (stores.StoreError, OSError, MemoryError):  # of reading the counts, which say it themselves
            raise
        except Exception as error:  # whoever wrote the measure, it may raise anything
            raise ValueError(f"{self._where()}: it raised {in_one_line(error)}") from error

    def _checked(self, value: Any) -> NDArray[np.float64]:
        """What the measure's function returned, which must be a number, or one for each class."""
        given, shape = np.asarray(value), self.values.shape[2:]
        is_undefined = given.shape == () and given.dtype.kind == "f" and math.isnan(given)
        if given.dtype.kind not in "biuf" or not (given.shape == shape or is_undefined):
            expected = f"{shape[0]} numbers, one for each class" if shape else "a number"
            raise ValueError(f"{self._where()}: expected {expected}, but it returned {value!r}")
        return given.astype(np.float64)

    def _where(self) -> str:
        layer, step = self._counts.layer_names[self._layer], self._counts.steps[self.chosen][self._row]
        return f"{self.name} of layer {layer} at step {step:,}"

    def series(self) -> MeasureSeries:
        """All that was computed."""
        return MeasureSeries(
            self._spec.function,
            self.values,
            self._counts.steps[self.chosen],
            self._counts.epochs[self.chosen],
            self._counts.layer_names,
            self._counts.stage,
            self.errors if self._counts.one_in > 1 else None,
            self._class_names,
        )


def tell_nan(counts: CountsStore, specs: Iterable[MeasureSpec]) -> None:
    """Warn, in one line, where measures are NaN because pre-activations were."""
    rows, layers = np.nonzero(counts.num_nan > 0)
    if len(rows) and not all(spec.keep_nan for spec in specs):
        names = [counts.layer_names[layer] for layer in np.unique(layers)]
        more = f" and {len(names) - _FEW_LAYERS} more" if len(names) > _FEW_LAYERS else ""
        warnings.warn(
            f"pre-activations were NaN in {', '.join(names[:_FEW_LAYERS])}{more}, first at step "
            f"{counts.steps[rows[0]]:,}: measures of these layers, and what compares with them, are NaN there; "
            "--keep-nan, or keep_nan: true in a config, measures them all the same",
            stacklevel=2,
        )


def _over_time(
    counts: CountsStore, layer: int, chosen: NDArray[np.bool_], read: Mapping[int, Counts], *, classes: bool
) -> Iterator[tuple[int, Counts]]:
    """One layer's counts at the chosen steps, by their indices, in order; those that are read are not read again.

    Args:
        read: counts by the index of their step.
    """
    unread = chosen.copy()
    unread[list(read)] = False
    others = counts.over_time(layer, unread, classes=classes)
    for index in np.flatnonzero(chosen).tolist():
        yield index, read[index] if index in read else next(others)
