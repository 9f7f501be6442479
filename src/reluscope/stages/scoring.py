"""Stage three, at the end: hold the paper's claims against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr

from reluscope import paths
from reluscope.patterns import sample_share
from reluscope.scorecard import VARIANTS, RunResult, evaluate_all, write_csv, write_markdown
from reluscope.series import MeasureSeries, open_series
from reluscope.stages.agreement import require_configured_data
from reluscope.stores import array_of, open_store, read, require_owner
from reluscope.study import Run, Study
from reluscope.training.spec import TrainingSpec


def score_study(study: Study, markdown: str, table: str, folder: str = "") -> None:
    """Write the scorecard of a study as Markdown and as CSV.

    Args:
        folder: in which results/ lies; the working directory without it.

    Raises:
        StoreError: runs of the same data section were made of different images.
    """
    trained = study.trained_runs
    made = [(run.name, path) for run in trained for path in _stores_of(study, run)]
    require_configured_data(study, made, folder)
    lines = evaluate_all([result_of(run, study.claimed_measures(run), folder) for run in trained])
    data = sorted({f"{run.spec.data.name}, {run.num_images:,} training images" for run in trained})
    about = {"Study": study.name, "Data": "; ".join(data)}
    if shares := sorted({sample_share(run.one_in) for run in trained if run.one_in > 1}):
        about["Comparisons of steps are estimates from a sample of the patterns"] = ", ".join(shares)
    write_markdown(lines, markdown, about)
    write_csv(lines, table)


def _stores_of(study: Study, run: Run) -> list[str]:
    """What the scorecard reads of a run."""
    measures = [paths.measure(run.name, name) for name in study.claimed_measures(run)]
    return [paths.weights(run.name), paths.counts(run.name, next(iter(run.shards))), *measures]


def result_of(run: Run, measures: Sequence[str], folder: str = "") -> RunResult:
    """What the scorecard wants to know of a finished training, whose results/ lies in `folder`."""
    assert isinstance(run.spec, TrainingSpec)
    spec, timeline = run.spec, run.spec.timeline()
    weights = open_store(Path(folder, paths.weights(run.name)), "weights")
    counts = open_store(Path(folder, paths.counts(run.name, next(iter(run.shards)))), "counts")
    require_owner(paths.counts(run.name, next(iter(run.shards))), counts.attrs, run=run.name)
    accuracies, rates, steps = (_values(weights, name) for name in ("test_accuracy", "learning_rate", "step"))
    return RunResult(
        name=run.name,
        network=spec.network,
        method=spec.method.to_dict(),
        data=run.described_data,
        seed=spec.seed,
        num_steps=timeline.num_steps,
        steps_per_epoch=timeline.steps_per_epoch,
        num_channels=_values(counts, "num_channels").tolist(),
        num_positions=_values(counts, "num_positions").tolist(),
        measures={name: _measured(run.name, name, folder) for name in measures},
        test_accuracy=float(accuracies[-1]) if len(accuracies) else None,
        learning_rate=dict(zip(steps.tolist(), rates.tolist(), strict=True)),
    )


def _measured(run: str, name: str, folder: str) -> MeasureSeries:
    function, _ = VARIANTS.get(name, (name, {}))
    return open_series(Path(folder, paths.measure(run, name)), run=run, measure=function)


def _values(group: zarr.Group, name: str) -> np.ndarray:
    return read(array_of(group, name))
