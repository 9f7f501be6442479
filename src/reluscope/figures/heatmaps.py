"""Layer x time heatmaps: a grid of measures and runs (Figures 1, 3 and 4)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import (
    EngFormatter,
    FixedFormatter,
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from reluscope.figures.inputs import SeriesByRun, mean_over_seeds, require_series, stage_starts
from reluscope.figures.style import (
    CHARACTER,
    FONT_SIZE,
    MISSING_COLOR,
    TICK_SIZE,
    WIDEST,
    MeasureStyle,
    Norm,
    figure_width,
    finish,
    literal,
    measure_style,
    thin_frame,
    wrap_bold,
)
from reluscope.hints import require_known
from reluscope.series import MeasureSeries

MeasuresAs = Literal["rows", "columns"]
Time = Literal["epoch", "step"]
Scale = Literal["linear", "symlog"]

_MARGIN = 1.4  # inches that labels and colour bars take from the width
_PANEL_HEIGHT = 1.3  # inches
_LABELS = 0.8  # inches that labels take from the height
_BAR_WIDTH = 0.08  # inches
_SYMLOG = {"base": 10.0, "linscale": 0.5}  # the way from 0 to the first checkpoint is drawn half a decade long
_CENTRAL = (0.02, 0.98)  # the colour bar leaves out the 2 % of the drawn area at either end of the values
_AT_BOUND = 0.01  # of a share
_FEW_STEPS = 3  # and nothing where no picture has more


@dataclass(frozen=True, eq=False)
class _Panel:
    """One heatmap, before it is drawn.

    Attributes:
        values: float64, shape [step, layer].
        stage: shape [layer].
        times: where the checkpoints lie on x, shape [step].
        linear_until: end of the linear part of a symlog axis; None where the axis is linear.
        edges: where their cells begin and end, shape [step + 1].
        area: share of the panel that a cell covers as drawn, shape [step, layer].
    """

    values: NDArray[np.float64]
    stage: NDArray[np.int64]
    times: NDArray[np.float64]
    linear_until: float | None
    edges: NDArray[np.float64]
    area: NDArray[np.float64]


def draw(
    series: SeriesByRun,
    *,
    runs: Mapping[str, str],
    measures: Sequence[str],
    measures_as: MeasuresAs = "rows",
    time: Time = "epoch",
    scale: Scale = "linear",
    title: str | None = None,
) -> Figure:
    """One heatmap for each run and measure: training time on x, layer on y, the first layer at the bottom.

    The heatmaps of one measure share their colours and one colour bar. Unless it is logarithmic, it leaves out the
    values of the 2 % of the drawn area at either end, and shares of exactly 1 (a state compared with itself), lest
    the first steps swallow the range; its ends are pointed where values lie beyond. NaN is light grey. Thin lines
    separate the stages, which are numbered from 1, as in the paper; layers count from 0.

    Where a run has several seeds, their mean is drawn. A checkpoint's cell reaches half-way to its neighbours, on the
    axis as it is drawn.

    Args:
        series: run -> measure -> its values, one series a seed.
        runs: the runs to draw, in order, and the title of each.
        measures: the measures to draw, in order.
        measures_as: whether a measure is a row of the grid (Figure 3) or a column (Figures 1 and 4).
        time: what x shows.
        scale: of x; "symlog" is linear up to the first checkpoint after 0, and logarithmic from there.
        title: above the whole figure.

    Raises:
        ValueError: nothing to draw, an unknown run or measure, seeds that differ in their steps or layers, or an
            option other than those above.
    """
    require_known("heatmaps: measures_as", measures_as, get_args(MeasuresAs))
    require_known("heatmaps: time", time, get_args(Time))
    require_known("heatmaps: scale", scale, get_args(Scale))
    require_series("heatmaps", series, runs, measures)
    by_row = measures_as == "rows"
    rows, columns = (len(measures), len(runs)) if by_row else (len(runs), len(measures))
    figure = Figure(figsize=(figure_width(columns), rows * _PANEL_HEIGHT + _LABELS), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    drawn = {m: [_panel(mean_over_seeds(series[run][m]), time, scale) for run in runs] for m in measures}
    scales = {m: measure_style(m).scale_of if measure_style(m).scale_of in drawn else m for m in measures}
    for measure, strip in zip(measures, grid if by_row else grid.T, strict=True):
        style, panels = measure_style(measure), drawn[measure]
        comparable = [panel for m in measures if scales[m] == scales[measure] for panel in drawn[m]]
        norm, extend = _color_range(style.norm, comparable)
        meshes = [_heatmap(axes, panel, style, norm) for axes, panel in zip(strip, panels, strict=True)]
        _colorbar(figure, meshes[0], strip, style, extend, by_row)
    _label_runs(grid, list(runs.values()), by_row)
    _share_tick_labels(grid)
    figure.supxlabel(time.capitalize(), fontsize=FONT_SIZE)
    figure.supylabel("Layer", fontsize=FONT_SIZE)
    finish(figure, title)
    return figure


def cell_edges(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the cells of checkpoints at `times` meet: half-way between neighbours, the outer ones symmetric.

    Args:
        times: ascending, shape [step].

    Returns:
        float64, shape [step + 1]; one single checkpoint is one unit wide.
    """
    if len(times) == 1:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    inner = (times[:-1] + times[1:]) / 2
    return np.concatenate([[2 * times[0] - inner[0]], inner, [2 * times[-1] - inner[-1]]])


def _panel(selected: MeasureSeries, time: Time, scale: Scale) -> _Panel:
    times = np.asarray(selected.epoch if time == "epoch" else selected.step, dtype=np.float64)
    linear_until = None
    if scale == "linear":
        edges = cell_edges(times)
        widths = np.diff(edges)
    else:
        linear_until = float(min(times[times > 0], default=1.0))
        transform = SymmetricalLogTransform(linthresh=linear_until, **_SYMLOG)
        drawn = cell_edges(transform.transform(times))
        edges = transform.inverted().transform(drawn)
        widths = np.diff(drawn)
    num_layers = selected.values.shape[1]
    area = np.broadcast_to(widths[:, None] / (widths.sum() * num_layers), selected.values.shape)
    return _Panel(selected.values, selected.stage, times, linear_until, edges, area)


def _color_range(kind: Norm, panels: Sequence[_Panel]) -> tuple[Normalize, str]:
    """The colour scale of one measure over all its heatmaps, and at which ends values lie beyond it."""
    values = np.concatenate([panel.values.ravel() for panel in panels])
    area = np.concatenate([panel.area.ravel() for panel in panels])
    known = np.isfinite(values)
    are_few = all(len(panel.values) <= _FEW_STEPS for panel in panels)  # none of which is to lie beyond the scale
    if kind == "log":
        known &= values > 0
    if kind == "share" and not are_few:
        known &= values < 1
    if not known.any():  # any scale will do
        return Normalize(0.0, 1.0), "neither"
    lowest, highest = np.nanmin(values), np.nanmax(values)
    values, area = values[known], area[known]
    if kind == "log":
        low, high = values.min(), values.max()
        return LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2), "neither"
    central = (0.0, 1.0) if are_few else _CENTRAL
    if kind == "diverging":
        high = np.quantile(np.abs(values), central[1], weights=area, method="inverted_cdf") or 1.0
        low = -high
    else:
        low, high = np.quantile(values, central, weights=area, method="inverted_cdf")
        if low == high:
            low, high = low - 0.05, high + 0.05
    if kind == "share":  # a bound of the measure is no value that others lie beyond
        low = low if low > _AT_BOUND else 0.0
        high = high if high < 1 - _AT_BOUND else 1.0
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return Normalize(low, high), ends[bool(lowest < low), bool(highest > high)]


def _heatmap(axes: Axes, panel: _Panel, style: MeasureStyle, norm: Normalize) -> QuadMesh:
    num_layers = panel.values.shape[1]
    if panel.linear_until is not None:
        axes.set_xscale("symlog", linthresh=panel.linear_until, **_SYMLOG)
    mesh = axes.pcolormesh(
        panel.edges,
        np.arange(num_layers + 1) - 0.5,
        np.ma.masked_invalid(panel.values.T),
        cmap=matplotlib.colormaps[style.colormap].with_extremes(bad=MISSING_COLOR),
        norm=norm,
        rasterized=True,  # one picture in a PDF, rather than thousands of rectangles
    )
    axes.set_xlim(panel.edges[0], panel.edges[-1])
    axes.set_ylim(-0.5, num_layers - 0.5)
    thin_frame(axes)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _mark_time(axes, panel)
    mark_stages(axes, panel.stage)
    return mesh


def _mark_time(axes: Axes, panel: _Panel) -> None:
    """Few ticks at round numbers: on a symlog axis at 0 and at the decades beyond its linear part."""
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(panel.times) == 1:
        axes.xaxis.set_major_locator(FixedLocator(panel.times.tolist()))
    elif panel.linear_until is None:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
    else:
        first, last = np.log10([panel.linear_until, panel.times[-1]])
        decades = 10.0 ** np.arange(np.ceil(first), np.floor(last) + 1)
        axes.xaxis.set_major_locator(FixedLocator([0.0, *decades.tolist()]))


def mark_stages(axes: Axes, stage: NDArray[np.int64], panel_height: float = _PANEL_HEIGHT) -> None:
    """A line between stages, and each stage's number beside its middle; layers on y.

    Args:
        stage: of each layer, shape [layer].
        panel_height: inches.
    """
    num_layers = len(stage)
    starts = stage_starts(stage)
    if not starts:
        return
    for start in starts:
        halo = [withStroke(linewidth=1.2, foreground="white")]  # seen on dark colours and on light ones
        axes.axhline(start - 0.5, color="black", linewidth=0.4, path_effects=halo)
    bounds = list(pairwise([0, *starts, num_layers]))
    points_per_layer = panel_height * 72 / num_layers
    shortest = min(after - first for first, after in bounds) * points_per_layer
    word = "stage " if shortest > len("stage 1") * CHARACTER * TICK_SIZE else "S"
    axes.yaxis.remove_overlapping_locs = False  # a stage's middle may be a layer with a tick
    axes.yaxis.set_minor_locator(FixedLocator([(first + after - 1) / 2 for first, after in bounds]))
    axes.yaxis.set_minor_formatter(FixedFormatter([f"{word}{number}" for number in range(1, len(bounds) + 1)]))
    beyond_layers = 4 + len(str(num_layers - 1)) * 0.75 * TICK_SIZE  # points: left of the layers' numbers
    axes.tick_params(axis="y", which="minor", labelsize=TICK_SIZE, labelrotation=90, length=0, pad=beyond_layers)
    for label in axes.get_yticklabels(minor=True):
        label.set_verticalalignment("center")


def _colorbar(
    figure: Figure, mesh: QuadMesh, strip: NDArray[np.object_], style: MeasureStyle, extend: str, by_row: bool
) -> None:
    """The colour bar of one measure, beside its row or above its column."""
    columns = strip[0].get_gridspec().ncols
    side, length = ("right", _PANEL_HEIGHT) if by_row else ("top", _panel_width(columns))
    bar = figure.colorbar(mesh, ax=list(strip), location=side, extend=extend, aspect=length / _BAR_WIDTH, pad=0.02)
    low, high = (float(end or 0) for end in mesh.get_clim())
    if not isinstance(mesh.norm, LogNorm):
        bar.locator = MaxNLocator(nbins=6 if by_row else 3, steps=[1, 2, 2.5, 5, 10])
    elif high < 100 * low:  # too few powers of ten to read a scale from them alone
        bar.locator = LogLocator(subs=(1, 2, 5) if by_row else (1, 3), numticks=12)
        bar.formatter = EngFormatter(sep="") if low >= 1 else StrMethodFormatter("{x:g}")
        bar.minorlocator = NullLocator()
    bar.set_label(textwrap.fill(style.label, 22), fontsize=FONT_SIZE)
    bar.ax.tick_params(which="both", labelsize=TICK_SIZE, length=2, width=0.5, pad=1.5)
    bar.ax.tick_params(which="minor", length=1.2)
    bar.outline.set_linewidth(0.5)


def _label_runs(grid: NDArray[np.object_], titles: Sequence[str], by_row: bool) -> None:
    """Each run's title, above its column or beside its row."""
    if by_row:
        columns = grid.shape[1]
        size = TICK_SIZE if figure_width(columns) == WIDEST else FONT_SIZE
        for axes, title in zip(grid[0], titles, strict=True):
            text = wrap_bold(title, _panel_width(columns), size)
            literal(axes.set_title(text, fontsize=size, fontweight="bold", pad=3))
    else:
        for axes, title in zip(grid[:, 0], titles, strict=True):
            text = wrap_bold(title, _PANEL_HEIGHT, FONT_SIZE)
            literal(axes.set_ylabel(text, fontsize=FONT_SIZE, fontweight="bold"))


def _share_tick_labels(grid: NDArray[np.object_]) -> None:
    """Leave out the tick labels that the panel below, or to the left, shows as well."""
    for above, below in pairwise(grid):
        for axes, neighbour in zip(above, below, strict=True):
            axes.tick_params(axis="x", labelbottom=axes.get_xlim() != neighbour.get_xlim())
    for left, right in pairwise(grid.T):
        for neighbour, axes in zip(left, right, strict=True):
            differs = _layer_axis(axes) != _layer_axis(neighbour)
            axes.tick_params(axis="y", which="both", labelleft=differs)


def _layer_axis(axes: Axes) -> tuple[float, ...]:
    return (*axes.get_ylim(), *axes.yaxis.get_minorticklocs())


def _panel_width(columns: int) -> float:
    """Inches, about."""
    return (figure_width(columns) - _MARGIN) / columns
