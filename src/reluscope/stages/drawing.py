"""Stage three, second half: draw one figure from measured series."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reluscope import figures, paths, stores
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
        store = Path(folder, paths.measure(run, study.measure_store(run, measure, name)))
        try:
            return at_steps(open_series(store, run=run, measure=measure), figure.steps[run])
        except StepError as error:
            raise StepError(f"{store}: {error}") from error

    series = {
        entry: {measure: [shown(run, measure) for run in runs] for measure in figure.measures}
        for entry, runs in figure.runs.items()
    }
    titles = {entry: study.runs[runs[0]].title for entry, runs in figure.runs.items()}
    drawn = figures.find(figure.kind).draw(series, runs=titles, measures=figure.measures, **figure.look)
    figures.save(drawn, outputs)


class StepError(ValueError):
    """A series lacks a step."""


def at_steps(series: MeasureSeries, steps: Steps) -> MeasureSeries:
    """The series at `steps` only.

    Raises:
        StepError: it lacks one of them.
    """
    if len(missing := np.setdiff1d(steps, series.step)):
        there = stores.steps_named(series.step[[0, -1]]) if len(series.step) else "no step"
        raise StepError(
            f"expected {series.measure} at step {missing[0]:,} too, but it was measured at {len(series.step):,} steps "
            f"({there}); delete the store to make it again"
        )
    rows = np.searchsorted(series.step, steps)
    errors = None if series.standard_error is None else series.standard_error[rows]
    return dataclasses.replace(
        series, values=series.values[rows], step=series.step[rows], epoch=series.epoch[rows], standard_error=errors
    )
