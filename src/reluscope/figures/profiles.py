"""A measure over the layers at chosen moments of the training, one line a depth (Figure 2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reluscope.figures.inputs import (
    SeriesByRun,
    deviation_over_seeds,
    mean_over_seeds,
    require_known,
    require_series,
    stage_starts,
)
from reluscope.figures.moments import Moment, moment_label, position, require_moments
from reluscope.figures.style import (
    FONT_SIZE,
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
_LABELS = 0.9  # inches that labels and the legend take from the height
_MARGIN = 0.7  # inches that labels take from the width
_LEGEND_ENTRY = 1.25  # inches
_DARKEST, _LIGHTEST = 0.0, 0.85  # part of the colour map that is seen on white
_LINE: dict[str, Any] = {"linewidth": 0.9, "marker": "o", "markersize": 2.4}
_BAND, _BAND_EDGE = 0.15, 0.4  # opacity: overlapping bands are told apart by their edges
_BREATH = 0.02  # of a share, between the outermost values and the frame


@dataclass(frozen=True, eq=False)
class _Profile:
    """What is drawn of one run.

    Attributes:
        mean: over seeds, float64, shape [moment, layer].
        low, high: one standard deviation beside it, alike; the mean itself where there is one seed.
        steps: of each moment.
        stage: shape [layer].
        num_seeds: how many seeds there are.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    steps: list[int]
    stage: NDArray[np.int64]
    num_seeds: int

    @property
    def depth(self) -> int:
        """Counted layers."""
        return len(self.stage)


def draw(
    series: SeriesByRun,
    *,
    runs: Mapping[str, str],
    measures: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    moments: Sequence[Moment],
    title: str | None = None,
) -> Figure:
    """One panel for each moment (row) and column: layer on x, the measure's mean over seeds on y, one line a depth.

    All panels share their axes, and lines of equal depth their colour. A band reaches one standard deviation to
    either side where there are several seeds. A dot marks the first layer of each stage but the first. Layers count
    from 0, and a line has a gap where the measure is undefined.

    Args:
        series: run -> measure -> its values, one series a seed.
        runs: the runs to draw, each in some column; their titles are not shown, since colours tell depths.
        measures: the one measure to draw.
        columns: title of each column -> its runs, of different depths.
        moments: the rows, from the top.
        title: above the whole figure.

    Raises:
        ValueError: nothing to draw, more than one measure, an unknown run, measure or key of a moment, a run in no
            column, two runs of one depth in a column, a step that was not counted, or seeds that differ in their
            steps or layers.
    """
    require_series("profiles", series, runs, measures)
    if len(measures) != 1:
        raise ValueError(f"profiles: measures: expected exactly one, but got {', '.join(measures)}")
    _require_columns(columns, runs)
    require_moments("profiles", moments)
    profiles = {run: _profile(run, series[run][measures[0]], moments) for run in runs}
    _require_different_depths(columns, profiles)
    drawn, style = list(profiles.values()), measure_style(measures[0])
    colors = _colors(drawn)
    size = figure_width(len(columns)), len(moments) * _PANEL_HEIGHT + _LABELS
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(moments), len(columns), sharex=True, sharey=True, squeeze=False)
    for strip, chosen in zip(grid.T, columns.values(), strict=True):
        for row, axes in enumerate(strip):
            _dress(axes)
            for run in chosen:
                _line(axes, profiles[run], row, colors[profiles[run].depth])
    _scale(grid[0, 0], style, drawn)
    _label(figure, grid, columns, moments, [[profile.steps[row] for profile in drawn] for row in range(len(moments))])
    of_seeds = ", mean over seeds" if any(profile.num_seeds > 1 for profile in drawn) else ""
    figure.supylabel(style.label + of_seeds, fontsize=FONT_SIZE)
    _legend(figure, colors, drawn)
    finish(figure, title)
    return figure


def _require_columns(columns: Mapping[str, Sequence[str]], runs: Collection[str]) -> None:
    if not columns:
        raise ValueError("profiles: columns: expected at least one, but got none")
    for column, drawn in columns.items():
        if not drawn:
            raise ValueError(f"profiles: column {column!r}: expected at least one run, but got none")
        for run in drawn:
            require_known(f"profiles: run of column {column!r}", run, runs)
    for run in runs:
        if not any(run in drawn for drawn in columns.values()):
            raise ValueError(f"profiles: columns: expected every run in a column, but {run!r} is in none")


def _require_different_depths(columns: Mapping[str, Sequence[str]], profiles: Mapping[str, _Profile]) -> None:
    for column, drawn in columns.items():
        by_depth: dict[int, str] = {}
        for run in drawn:
            other = by_depth.setdefault(profiles[run].depth, run)
            if other != run:
                raise ValueError(
                    f"profiles: column {column!r}: expected runs of different depths, "
                    f"but got {other!r} and {run!r}, both of {profiles[run].depth} layers"
                )


def _profile(run: str, seeds: Sequence[MeasureSeries], moments: Sequence[Moment]) -> _Profile:
    average, deviation = mean_over_seeds(seeds), deviation_over_seeds(seeds)
    at = [position("profiles", moment, average.step, run) for moment in moments]
    mean, by = average.values[at], 0.0 if deviation is None else deviation[at]
    return _Profile(mean, mean - by, mean + by, average.step[at].tolist(), average.stage, len(seeds))


def _colors(profiles: Iterable[_Profile]) -> dict[int, str]:
    """Depth -> colour: the deeper, the darker."""
    depths = sorted({profile.depth for profile in profiles})
    shades = np.linspace(_LIGHTEST, _DARKEST, len(depths))
    return {depth: to_hex(matplotlib.colormaps["viridis"](shade)) for depth, shade in zip(depths, shades, strict=True)}


def _dress(axes: Axes) -> None:
    thin_frame(axes)
    axes.grid(axis="y", color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)


def _line(axes: Axes, profile: _Profile, row: int, color: str) -> None:
    layers, mean = np.arange(profile.depth), profile.mean[row]
    if profile.num_seeds > 1:
        axes.fill_between(layers, profile.low[row], profile.high[row], **_band(color))
    axes.plot(layers, mean, color=color, markevery=stage_starts(profile.stage), **_LINE)


def _band(color: str) -> dict[str, Any]:
    """How a band of this colour is drawn."""
    return {"facecolor": to_rgba(color, _BAND), "edgecolor": to_rgba(color, _BAND_EDGE), "linewidth": 0.3}


def _scale(axes: Axes, style: MeasureStyle, profiles: Sequence[_Profile]) -> None:
    """The axes that all panels share: x up to the deepest network's last layer, y as the measure asks."""
    axes.set_xlim(-0.5, max(profile.depth for profile in profiles) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    if style.norm == "log" and any((profile.mean > 0).any() for profile in profiles):
        axes.set_yscale("log", nonpositive="clip")
        return
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    reached = np.concatenate([values.ravel() for profile in profiles for values in (profile.low, profile.high)])
    reached = reached[np.isfinite(reached)]
    if style.norm == "share" and len(reached):
        low, high = np.floor(10 * reached.min()) / 10, np.ceil(10 * reached.max()) / 10
        axes.set_ylim(max(low, 0.0) - _BREATH, min(high, 1.0) + _BREATH)


def _label(
    figure: Figure, grid: NDArray[np.object_], titles: Iterable[str], moments: Sequence[Moment], steps: list[list[int]]
) -> None:
    """Column titles, the moment beside each row, and what x shows.

    Args:
        steps: of each moment, those of all runs.
    """
    panel_width = (figure.get_figwidth() - _MARGIN) / grid.shape[1]
    for top, bottom, column in zip(grid[0], grid[-1], titles, strict=True):
        text = wrap_bold(column, panel_width, FONT_SIZE)
        literal(top.set_title(text, fontsize=FONT_SIZE, fontweight="bold", pad=3))
        bottom.set_xlabel("Layer", fontsize=FONT_SIZE, labelpad=1.5)
    for axes, moment, reached in zip(grid[:, 0], moments, steps, strict=True):
        label = moment_label(moment, reached, _PANEL_HEIGHT)
        literal(axes.set_ylabel(label, fontsize=FONT_SIZE, fontweight="bold"))


def _legend(figure: Figure, colors: Mapping[int, str], profiles: Sequence[_Profile]) -> None:
    """The depths, then the dot and the band where they are drawn, below the panels."""
    handles: list[Artist] = [
        Line2D([], [], color=color, label=_depth_label(depth, profiles), linewidth=_LINE["linewidth"])
        for depth, color in colors.items()
    ]
    if any(stage_starts(profile.stage) for profile in profiles):
        handles.append(Line2D([], [], **{**_LINE, "linewidth": 0}, color="0.4", label="first layer of a stage"))
    if seeds := sorted({profile.num_seeds for profile in profiles} - {1}):
        number = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        handles.append(Patch(**_band("0.4"), label=f"± 1 s.d. over {number} seeds"))
    columns = int(figure.get_figwidth() / _LEGEND_ENTRY)
    if columns < len(handles):
        columns = min(columns, len(colors))  # the depths first, the rest below them
    figure.legend(
        handles=[handle for column in range(columns) for handle in handles[column::columns]],  # row by row
        loc="outside lower center",
        ncols=columns,
        fontsize=TICK_SIZE,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _depth_label(depth: int, profiles: Iterable[_Profile]) -> str:
    """So many layers, and how many a stage where all stages of all networks of this depth have so many, or one more.

    In pre-activation networks one stage has the last activation, before the pooling, besides its blocks' own.
    """
    sizes = np.concatenate([np.unique_counts(profile.stage).counts for profile in profiles if profile.depth == depth])
    fewest = sizes.min()
    a_stage = f" ({fewest} a stage)" if fewest < depth and sizes.max() <= fewest + 1 else ""
    return f"{depth} layer{'s' if depth > 1 else ''}{a_stage}"
