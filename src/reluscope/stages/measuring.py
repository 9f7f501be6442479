"""Stage three, first half: compute one measure of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reluscope import measures
from reluscope.counts import CountsStore, open_counts
from reluscope.patterns import PatternCounts
from reluscope.series import MeasureSeries, write_series
from reluscope.study import MeasureSpec, measuring_settings


def measure_run(spec: MeasureSpec, shards: Sequence[str], output: str) -> None:
    """Compute a measure at each of its steps and at every layer of a run, and write it to `output`.

    Args:
        shards: all counts stores of the run.
    """
    counts = open_counts(*shards)
    series = compute(spec, counts)
    kept = {key: counts.attributes[key] for key in ("run", "training", "batch_size", "versions")}
    write_series(series, Path(output), {**measuring_settings(spec), **kept})


def compute(spec: MeasureSpec, counts: CountsStore) -> MeasureSeries:
    """A measure of a run over time and layers; NaN where it needs the step before the first."""
    measure = measures.find(spec.function)
    chosen = np.isin(counts.steps, spec.steps)
    values = np.full((int(chosen.sum()), len(counts.layer_names)), np.nan)
    for layer in range(len(counts.layer_names)):
        fixed: dict[str, PatternCounts] = {}
        if "initial" in measure.needs:
            fixed["initial"] = counts.at(0, layer)
        if "final" in measure.needs:
            fixed["final"] = counts.at(-1, layer)
        previous: PatternCounts | None = None
        for row, now in enumerate(counts.over_time(layer, chosen)):
            if "previous" not in measure.needs:
                values[row, layer] = measure.function(counts=now, **fixed, **spec.options)
            elif previous is not None:
                values[row, layer] = measure.function(counts=now, previous=previous, **fixed, **spec.options)
            previous = now
    return MeasureSeries(
        spec.function, values, counts.steps[chosen], counts.epochs[chosen], counts.layer_names, counts.stage
    )
