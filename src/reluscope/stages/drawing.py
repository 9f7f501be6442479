"""Stage three, second half: draw one figure from measured series."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reluscope import figures, paths
from reluscope.schedule import Steps
from reluscope.series import MeasureSeries, open_series
from reluscope.stages.agreement import require_configured_data
from reluscope.study import Study


def draw_figure(study: Study, name: str, outputs: Sequence[str], folder: str = "") -> None:
    """Draw the figure `name` of a study and write it to each of `outputs` (PNG, PDF).

    Args:
        folder: in which results/ lies; the working directory without it.

    Raises:
        StoreError: runs of the same data section were made of different images.
    """
    figure = study.figures[name]

    made = [
        (run, paths.measure(run, study.measure_store(run, measure, name)))
        for runs in figure.runs.values()
        for run in runs
        for measure in figure.measures
    ]
    require_configured_data(study, made, folder)

    def shown(run: str, measure: str) -> MeasureSeries:
        series = open_series(Path(folder, paths.measure(run, study.measure_store(run, measure, name))))
        return at_steps(series, figure.steps[run])

    series = {
        entry: {measure: [shown(run, measure) for run in runs] for measure in figure.measures}
        for entry, runs in figure.runs.items()
    }
    titles = {entry: study.runs[runs[0]].title for entry, runs in figure.runs.items()}
    drawn = figures.find(figure.kind).draw(series, runs=titles, measures=figure.measures, **figure.look)
    figures.save(drawn, outputs)


def at_steps(series: MeasureSeries, steps: Steps) -> MeasureSeries:
    """The series at `steps` only, all of which it must have."""
    rows = np.searchsorted(series.step, steps)
    errors = None if series.standard_error is None else series.standard_error[rows]
    return dataclasses.replace(
        series, values=series.values[rows], step=series.step[rows], epoch=series.epoch[rows], standard_error=errors
    )
