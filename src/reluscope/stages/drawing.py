"""Stage three, second half: draw one figure from measured series."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from reluscope import figures
from reluscope.series import MeasureSeries, open_series
from reluscope.study import FigureSpec


def draw_figure(figure: FigureSpec, stores: Mapping[tuple[str, str], str], outputs: Sequence[str]) -> None:
    """Draw `figure` and write it to each of `outputs` (PNG, PDF).

    Args:
        stores: measure store by (run, measure).
    """
    series = {
        title: {m: mean_over_seeds([open_series(stores[run, m]) for run in runs]) for m in figure.measures}
        for title, runs in figure.runs.items()
    }
    titles = {title: title for title in figure.runs}
    drawn = figures.find(figure.kind).draw(series, runs=titles, measures=figure.measures, **figure.look)
    figures.save(drawn, outputs)


def mean_over_seeds(series: Sequence[MeasureSeries]) -> MeasureSeries:
    """The mean of one measure over runs that differ in nothing but the seed."""
    return dataclasses.replace(series[0], values=np.mean([one.values for one in series], axis=0))
