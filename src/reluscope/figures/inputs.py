"""What every kind of figure is given: checked, and summarised over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reluscope.hints import require_known
from reluscope.series import MeasureSeries

SeriesByRun = Mapping[str, Mapping[str, Sequence[MeasureSeries]]]
"""run -> measure -> its values, one series a seed."""


def require_series(kind: str, series: SeriesByRun, runs: Iterable[str], measures: Sequence[str]) -> None:
    """Refuse a figure without runs or measures, or of runs or measures that `series` lacks.

    Args:
        kind: of the figure, named first in the message.

    Raises:
        ValueError: see above.
    """
    runs = list(runs)
    if not runs or not measures:
        raise ValueError(f"{kind}: expected at least one run and measure, but got {len(runs)} and {len(measures)}")
    for run in runs:
        require_known(f"{kind}: run", run, series)
        for measure in measures:
            require_known(f"{kind}: measure of run {run!r}", measure, series[run])


def mean_over_seeds(seeds: Sequence[MeasureSeries]) -> MeasureSeries:
    """The mean of one measure over runs that differ in nothing but the seed; NaN where any of them is undefined.

    Its standard error is what sampling the patterns makes of it, not how the seeds differ (`deviation_over_seeds`).

    Raises:
        ValueError: no series, or series that differ in their measure, steps or layers.
    """
    values = _stacked(seeds).mean(axis=0)
    return dataclasses.replace(seeds[0], values=values, standard_error=_error_of_mean(seeds))


def _error_of_mean(seeds: Sequence[MeasureSeries]) -> NDArray[np.float64] | None:
    """The standard error of a mean over seeds, whose errors are independent; None where all values are exact."""
    errors = [one.standard_error for one in seeds if one.standard_error is not None]
    return np.sqrt(np.square(errors).sum(axis=0)) / len(seeds) if errors else None


def deviation_over_seeds(seeds: Sequence[MeasureSeries]) -> NDArray[np.float64] | None:
    """The standard deviation of one measure over seeds, estimated from this sample of them (divisor seeds - 1).

    Returns:
        float64, shape [step, layer]; None of one seed, which tells nothing of the spread.

    Raises:
        ValueError: no series, or series that differ in their measure, steps or layers.
    """
    values = _stacked(seeds)
    return values.std(axis=0, ddof=1) if len(seeds) > 1 else None


def stage_starts(stage: NDArray[np.int64]) -> list[int]:
    """The first layer of every stage but the first.

    Args:
        stage: of each layer, shape [layer].
    """
    return (np.flatnonzero(np.diff(stage)) + 1).tolist()


def _stacked(seeds: Sequence[MeasureSeries]) -> NDArray[np.float64]:
    """The values of all seeds, shape [seed, step, layer]."""
    if not seeds:
        raise ValueError("seeds of one run: expected at least one series, but got none")
    first = seeds[0]
    for other in seeds[1:]:
        for field in ("measure", "step", "layer_name", "stage", "class_name"):
            one, two = getattr(first, field), getattr(other, field)
            if not np.array_equal(one, two):
                raise ValueError(
                    f"seeds of one run: expected the same {field}, but got {_brief(one)} and {_brief(two)}"
                )
    return np.stack([one.values for one in seeds])


def _brief(value: str | Sequence[object] | NDArray[np.int64] | None) -> str:
    """A measure's name, or the number and the ends of a list of steps or names."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{len(value)} from {value[0]} to {value[-1]}"
