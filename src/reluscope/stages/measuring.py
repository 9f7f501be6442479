"""Stage three, first half: compute one measure of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reluscope import measures
from reluscope.counts import CountsStore, open_counts
from reluscope.patterns import PatternCounts
from reluscope.series import MeasureSeries, write_series


def measure_run(name: str, options: Mapping[str, Any], shards: Sequence[str], output: str) -> None:
    """Compute the measure `name` at every counted step and layer of a run and write it to `output`.

    Args:
        options: the measure's options; what is not given takes the function's default.
        shards: all counts stores of the run.
    """
    counts = open_counts(*shards)
    series = compute(name, counts, options)
    kept = ("run", "training", "batch_size", "versions")
    attributes = {key: counts.attributes[key] for key in kept}
    write_series(series, Path(output), {"options": {**measures.find(name).options, **options}, **attributes})


def compute(name: str, counts: CountsStore, options: Mapping[str, Any] | None = None) -> MeasureSeries:
    """A measure of a run over time and layers; NaN where it needs a step that is not there, such as the one before
    the first."""
    measure = measures.find(name)
    options = {} if options is None else dict(options)
    values = np.full((len(counts.steps), len(counts.layer_names)), np.nan)
    for layer in range(len(counts.layer_names)):
        fixed: dict[str, PatternCounts] = {}
        if "initial" in measure.needs:
            fixed["initial"] = counts.at(0, layer)
        if "final" in measure.needs:
            fixed["final"] = counts.at(-1, layer)
        previous: PatternCounts | None = None
        for position, now in enumerate(counts.over_time(layer)):
            if "previous" not in measure.needs:
                values[position, layer] = measure.function(counts=now, **fixed, **options)
            elif previous is not None:
                values[position, layer] = measure.function(counts=now, previous=previous, **fixed, **options)
            previous = now
    return MeasureSeries(name, values, counts.steps, counts.epochs, counts.layer_names, counts.stage)
