"""Layer x class pictures of a measure that has a value for each class, at chosen moments of the training."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reluscope.figures.heatmaps import mark_stages
from reluscope.figures.inputs import SeriesByRun, mean_over_seeds, require_series
from reluscope.figures.moments import Moment, moment_label, position, require_moments
from reluscope.figures.style import (
    CHARACTER,
    FONT_SIZE,
    MISSING_COLOR,
    TICK_SIZE,
    MeasureStyle,
    figure_width,
    finish,
    literal,
    measure_style,
    thin_frame,
    wrap_bold,
)
from reluscope.series import MeasureSeries

_PANEL_HEIGHT = 1.45  # inches
_LABELS = 0.9  # inches that labels take from the height
_MARGIN = 1.4  # inches that labels and the colour bar take from the width
_BAR_WIDTH = 0.08  # inches
_LONGEST_NAME = 16  # characters of a class's name


def draw(
    series: SeriesByRun,
    *,
    runs: Mapping[str, str],
    measures: Sequence[str],
    moments: Sequence[Moment],
    title: str | None = None,
) -> Figure:
    """One picture for each moment (row) and run (column): class on x, layer on y, the first layer at the bottom.

    All share their colours and one colour bar. Where a run has several seeds, their mean is drawn; NaN, a class
    without images, is light grey. Thin lines separate the stages. Classes are named where there is room for all names,
    and numbered from 0 elsewhere.

    Args:
        series: run -> measure -> its values, one series a seed, shape [step, layer, class].
        runs: the runs to draw, in order, and the title of each.
        measures: the one measure to draw.
        moments: the rows, from the top.
        title: above the whole figure.

    Raises:
        ValueError: nothing to draw, more than one measure, one without a value a class, an unknown run, measure or key
            of a moment, a step that was not counted, or seeds that differ in their steps or layers.
    """
    require_series("classes", series, runs, measures)
    if len(measures) != 1:
        raise ValueError(f"classes: measures: expected exactly one, but got {', '.join(measures)}")
    require_moments("classes", moments)
    drawn = [mean_over_seeds(series[run][measures[0]]) for run in runs]
    for run, one in zip(runs, drawn, strict=True):
        if one.class_name is None:
            raise ValueError(f"classes: expected a value a class, but {measures[0]!r} of {run!r} has none")
    rows = [[position("classes", m, one.step, run) for run, one in zip(runs, drawn, strict=True)] for m in moments]
    shown = [[one.values[row] for one, row in zip(drawn, at, strict=True)] for at in rows]  # [layer, class] each
    style, norm = measure_style(measures[0]), _color_range([values for strip in shown for values in strip])
    size = figure_width(len(runs)), len(moments) * _PANEL_HEIGHT + _LABELS
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(moments), len(runs), squeeze=False)
    panel_width = (size[0] - _MARGIN) / len(runs)
    for number, (strip, values, at, moment) in enumerate(zip(grid, shown, rows, moments, strict=True), 1):
        for axes, one, here in zip(strip, drawn, values, strict=True):
            mesh = _picture(axes, here, one, style, norm)
            _name_classes(axes, one.class_name or [], panel_width, is_lowest=number == len(moments))
        reached = [int(one.step[row]) for one, row in zip(drawn, at, strict=True)]
        label = moment_label(moment, reached, _PANEL_HEIGHT)
        literal(strip[0].set_ylabel(label, fontsize=FONT_SIZE, fontweight="bold"))
    for axes, run_title in zip(grid[0], runs.values(), strict=True):
        text = wrap_bold(run_title, panel_width, FONT_SIZE)
        literal(axes.set_title(text, fontsize=FONT_SIZE, fontweight="bold", pad=3))
    bar = figure.colorbar(mesh, ax=grid, location="right", aspect=len(moments) * _PANEL_HEIGHT / _BAR_WIDTH, pad=0.02)
    bar.locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    bar.set_label(textwrap.fill(style.label, 22 * len(moments)), fontsize=FONT_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE, length=2, width=0.5, pad=1.5)
    bar.outline.set_linewidth(0.5)
    figure.supxlabel("Class", fontsize=FONT_SIZE)
    figure.supylabel("Layer", fontsize=FONT_SIZE)
    finish(figure, title)
    return figure


def _color_range(pictures: Sequence[np.ndarray]) -> Normalize:
    """From the least to the largest value of all pictures."""
    values = np.concatenate([picture.ravel() for picture in pictures])
    values = values[np.isfinite(values)]
    if len(values) == 0:  # any scale will do
        return Normalize(0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    return Normalize(low, high) if low < high else Normalize(low - 0.05, high + 0.05)


def _picture(axes: Axes, values: np.ndarray, one: MeasureSeries, style: MeasureStyle, norm: Normalize) -> QuadMesh:
    num_layers, num_classes = values.shape
    mesh = axes.pcolormesh(
        np.arange(num_classes + 1) - 0.5,
        np.arange(num_layers + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=matplotlib.colormaps[style.colormap].with_extremes(bad=MISSING_COLOR),
        norm=norm,
        rasterized=True,
    )
    thin_frame(axes)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    mark_stages(axes, one.stage, _PANEL_HEIGHT)
    return mesh


def _name_classes(axes: Axes, names: Sequence[str], panel_width: float, *, is_lowest: bool) -> None:
    """Beneath the lowest picture of a column; upright where they are as long as their columns are wide."""
    room = panel_width * 72 / max(len(names), 1)  # points
    longest = max(map(len, names), default=0)
    if room < TICK_SIZE or longest > _LONGEST_NAME:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    else:
        upright = longest * CHARACTER * TICK_SIZE > room
        axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0, parse_math=False)
    axes.tick_params(axis="x", labelbottom=is_lowest)
