"""Stage three, first half: compute one measure of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reluscope import measures
from reluscope.counts import CountsStore, open_counts
from reluscope.measures import Estimate
from reluscope.patterns import Counts
from reluscope.series import MeasureSeries, write_series
from reluscope.study import MeasureSpec, measuring_settings


def measure_run(spec: MeasureSpec, shards: Sequence[str], output: str, *, progress: bool = False) -> None:
    """Compute a measure at each of its steps and at every layer of a run, and write it to `output`.

    Args:
        shards: all counts stores of the run.
        progress: show a bar over the layers and steps, if standard error is a terminal.
    """
    counts = open_counts(*shards)
    series = compute(spec, counts, progress=progress)
    wanted = ("run", "training", "checkpoints", "batch_size", "sample", "labels", "versions")
    kept = {key: counts.attributes[key] for key in wanted if key in counts.attributes}
    write_series(series, Path(output), {**measuring_settings(spec), **kept})


def compute(spec: MeasureSpec, counts: CountsStore, *, progress: bool = False) -> MeasureSeries:
    """A measure of a run over time and layers; NaN where it needs the step before the first.

    Raises:
        ValueError: it needs classes, and none were counted.
    """
    try:
        measures.check_labels(spec.function, counts.attributes.get("labels", False))
    except ValueError as error:
        raise ValueError(f"{spec.function}: {error}, which these counts were made without") from error
    measure = measures.find(spec.function)
    chosen = np.isin(counts.steps, spec.steps)
    by_class = bool(measure.needs & measures.OF_CLASSES)
    num_steps, num_layers = int(chosen.sum()), len(counts.layer_names)
    per_class = (len(counts.class_names or []),) if measures.is_per_class(spec.function, spec.options) else ()
    values = np.full((num_steps, num_layers, *per_class), np.nan)
    errors = np.full((num_steps, num_layers), np.nan)
    ends = {"initial": 0, "final": len(counts.steps) - 1}
    bar = tqdm(total=errors.size, desc=spec.function, unit="value", disable=None if progress else True)
    for layer in range(num_layers):
        needed = {need: index for need, index in ends.items() if need in measure.needs}
        read = {index: counts.at(index, layer, classes=by_class) for index in set(needed.values())}
        given = {need: read[index] for need, index in needed.items()}
        for row, now in enumerate(_over_time(counts, layer, chosen, read, classes=by_class)):
            of_classes = {name: getattr(now, name) for name in measure.needs & measures.OF_CLASSES}
            if "previous" not in measure.needs or row > 0:
                result = measure.function(counts=now, **of_classes, **given, **spec.options)
                if isinstance(result, Estimate):
                    values[row, layer], errors[row, layer] = result.value, result.standard_error
                else:
                    values[row, layer], errors[row, layer] = result, 0.0
            if "previous" in measure.needs:
                given["previous"] = now
            bar.update()
    bar.close()
    return MeasureSeries(
        spec.function,
        values,
        counts.steps[chosen],
        counts.epochs[chosen],
        counts.layer_names,
        counts.stage,
        errors if counts.one_in > 1 else None,
        counts.class_names if per_class else None,
    )


def _over_time(
    counts: CountsStore, layer: int, chosen: NDArray[np.bool_], read: Mapping[int, Counts], *, classes: bool
) -> Iterator[Counts]:
    """One layer's counts at the chosen steps, in order; those that are read already are not read again.

    Args:
        read: counts by the index of their step.
    """
    unread = chosen.copy()
    unread[list(read)] = False
    others = counts.over_time(layer, unread, classes=classes)
    for index in np.flatnonzero(chosen).tolist():
        yield read[index] if index in read else next(others)
