"""What the profiles show, read back from the figure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

from reluscope.figures.profiles import Moment, draw
from reluscope.series import MeasureSeries

STEPS = [0, 8, 40, 99, 100, 200]
MOMENTS: list[Moment] = [
    {"step": 0, "title": "initialisation"},
    {"step": 40, "title": "step 40"},
    {"share": 0.499, "title": "before the first drop"},
    {"share": 1.0},
    {"step": 8},
]
MOMENT_POSITIONS = [0, 2, 3, 5, 1]  # in STEPS; 0.499 of 200 steps is 99.8


def measure_series(values: ArrayLike, steps: ArrayLike = STEPS, measure: str = "relative_entropy") -> MeasureSeries:
    """Of a network whose first stage has one layer more than the two others."""
    values, step = np.asarray(values, np.float64), np.asarray(steps, np.int64)
    layers = values.shape[1]
    names = [f"relu{layer}" for layer in range(layers)]
    stage = np.maximum(np.arange(layers) - 1, 0) // (layers // 3)
    return MeasureSeries(measure, values, step, step / 4, names, stage)


def seeds(depth: int, number: int, entropy: int) -> list[MeasureSeries]:
    values = np.random.default_rng(entropy).uniform(0.43, 0.78, size=(number, len(STEPS), depth))
    return [measure_series(one) for one in values]


COLUMNS = {"ResNet": ["res8", "res14", "res20"], "ToyNet": ["toy8", "toy14"]}
DEPTHS = {"res8": 7, "res14": 13, "res20": 19, "toy8": 7, "toy14": 13}
SERIES = {run: {"relative_entropy": seeds(depth, 5, i)} for i, (run, depth) in enumerate(DEPTHS.items())}
ONE_SEED = {run: {"relative_entropy": given["relative_entropy"][:1]} for run, given in SERIES.items()}


def draw_all(series: Any = SERIES, **options: Any) -> Figure:
    return draw(
        series,
        **{
            "runs": dict.fromkeys(DEPTHS, ""),
            "measures": ["relative_entropy"],
            "columns": COLUMNS,
            "moments": MOMENTS,
            **options,
        },
    )


def draw_one(given: list[MeasureSeries], moments: list[Moment] | None = None) -> Figure:
    measure = given[0].measure
    return draw(
        {"run": {measure: given}},
        runs={"run": "Run"},
        measures=[measure],
        columns={"Column": ["run"]},
        moments=moments or [{"step": 0}],
    )


def panels(figure: Figure) -> list[list[Axes]]:
    """Panels by row."""
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    rows, columns = grid.get_geometry()
    assert len(figure.axes) == rows * columns
    return [figure.axes[row * columns : (row + 1) * columns] for row in range(rows)]


def bands(axes: Axes) -> list[PolyCollection]:
    return [child for child in axes.collections if isinstance(child, PolyCollection)]


def heights(line: Line2D) -> NDArray[np.float64]:
    return np.asarray(line.get_ydata(), np.float64)


def reach(band: PolyCollection) -> NDArray[np.float64]:
    """Corners of a band, shape [corner, xy]."""
    return np.asarray(band.get_paths()[0].vertices, np.float64)


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_rows_are_moments_columns_are_networks_and_lines_are_depths() -> None:
    grid = panels(draw_all())
    assert [len(row) for row in grid] == [2] * 5
    assert [axes.get_title() for axes in grid[0]] == ["ResNet", "ToyNet"]
    for row, position in zip(grid, MOMENT_POSITIONS, strict=True):
        for axes, runs in zip(row, COLUMNS.values(), strict=True):
            for line, run in zip(axes.lines, runs, strict=True):
                expected = sum(one.values[position] for one in SERIES[run]["relative_entropy"]) / 5
                np.testing.assert_array_equal(line.get_xdata(), np.arange(DEPTHS[run]))
                np.testing.assert_allclose(heights(line), expected)


def test_a_band_is_one_standard_deviation_to_either_side() -> None:
    figure = draw_one([measure_series([[0.2, 0.5, 0.6]], [0]), measure_series([[0.4, 0.5, 0.8]], [0])])
    (band,) = bands(figure.axes[0])
    vertices = reach(band)
    by_hand = 0.1 * 2**0.5  # of 0.2 and 0.4: squares 0.01 + 0.01 over (2 - 1)
    for layer, mean, deviation in [(0, 0.3, by_hand), (1, 0.5, 0.0), (2, 0.7, by_hand)]:
        reached = vertices[vertices[:, 0] == layer, 1]
        assert (reached.min(), reached.max()) == pytest.approx((mean - deviation, mean + deviation))
    assert "± 1 s.d. over 2 seeds" in legend_of(figure)
    assert figure.get_supylabel() == "Relative entropy, mean over seeds"


def test_one_seed_has_no_band() -> None:
    figure = draw_all(ONE_SEED)
    assert not any(bands(axes) for axes in figure.axes)
    assert not any("s.d." in label for label in legend_of(figure))
    assert figure.get_supylabel() == "Relative entropy"


def test_runs_of_different_numbers_of_seeds() -> None:
    few = {**SERIES, "res8": ONE_SEED["res8"], "toy8": {"relative_entropy": SERIES["toy8"]["relative_entropy"][:2]}}
    figure = draw_all(few)
    assert [len(bands(axes)) for axes in panels(figure)[0]] == [2, 2]
    assert "± 1 s.d. over 2 to 5 seeds" in legend_of(figure)


def test_equal_depths_have_one_colour_and_deeper_is_darker() -> None:
    (res, toy), *_ = panels(draw_all())
    colors = [line.get_color() for line in res.lines]
    assert [line.get_color() for line in toy.lines] == colors[:2]
    assert len(set(colors)) == 3
    brightness = [float(np.dot(to_rgb(color), [0.2126, 0.7152, 0.0722])) for color in colors]
    assert brightness == sorted(brightness, reverse=True)
    assert all(rgb_to_hsv(to_rgb(color))[1] > 0.3 for color in colors)  # none is near the grey of the legend's signs


def test_the_legend_says_how_deep_row_by_row() -> None:
    figure = draw_all()
    assert legend_of(figure) == [
        "7 layers (2 a stage)",
        "13 layers (4 a stage)",
        "19 layers (6 a stage)",
        "first layer of a stage",
        "± 1 s.d. over 5 seeds",
    ]
    runs = COLUMNS["ResNet"]
    narrow = draw_all(runs=dict.fromkeys(runs, ""), columns={"ResNet": runs}, moments=[{"step": 0}])
    narrow.draw_without_rendering()
    boxes = [text.get_window_extent() for text in narrow.legends[0].get_texts()]
    where = {text: (round(-box.y0), round(box.x0)) for text, box in zip(legend_of(narrow), boxes, strict=True)}
    assert sorted(where, key=lambda text: where[text]) == legend_of(figure)
    assert all(box.x0 >= 0 and box.x1 <= narrow.bbox.width for box in boxes)


def test_a_network_of_uneven_stages_is_described_by_its_layers_alone() -> None:
    given = measure_series([[0.5] * 6], [0])
    uneven = MeasureSeries("entropy", given.values, given.step, given.epoch, given.layer_name, np.array([0] * 5 + [1]))
    assert legend_of(draw_one([uneven]))[0] == "6 layers"
    one_stage = MeasureSeries("entropy", given.values, given.step, given.epoch, given.layer_name, np.zeros(6, np.int64))
    assert legend_of(draw_one([one_stage])) == ["6 layers"]


def test_dots_mark_the_first_layer_of_each_stage() -> None:
    (res, _), *_ = panels(draw_all())
    assert [line.get_markevery() for line in res.lines] == [[3, 5], [5, 9], [7, 13]]
    assert all(line.get_marker() == "o" for line in res.lines)


def test_all_panels_share_axes_that_hold_the_values() -> None:
    figure = draw_all()
    assert {axes.get_xlim() for axes in figure.axes} == {(-0.5, 18.5)}
    ((low, high),) = {axes.get_ylim() for axes in figure.axes}
    for axes in figure.axes:
        for band in bands(axes):
            reached = reach(band)[:, 1]
            assert low < reached.min() < reached.max() < high


def test_the_axis_ends_at_the_next_tenths() -> None:
    figure = draw_one([measure_series([[0.5, 0.6, 0.6]], [0]), measure_series([[0.7, 0.6, 0.6]], [0])])
    assert figure.axes[0].get_ylim() == pytest.approx((0.38, 0.82))  # the band reaches from 0.46 to 0.74


def test_a_band_beyond_the_possible_does_not_stretch_the_axis() -> None:
    figure = draw_one([measure_series([[0.0, 0.0, 1.0]], [0]), measure_series([[0.2, 0.0, 0.7]], [0])])
    assert figure.axes[0].get_ylim() == pytest.approx((-0.02, 1.02))


def test_each_row_says_its_moment_and_step() -> None:
    rows = [row[0].get_ylabel() for row in panels(draw_all())]
    assert rows == [
        "initialisation\nstep 0",
        "step 40",
        "before the first drop\nstep 99",
        "100% of training\nstep 200",
        "step 8",
    ]
    longer = [measure_series(one.values, [0, 8, 40, 99, 1000, 4000]) for one in SERIES["toy8"]["relative_entropy"]]
    rows = [row[0].get_ylabel() for row in panels(draw_all({**SERIES, "toy8": {"relative_entropy": longer}}))]
    assert rows[3] == "100% of training\nsteps 200 to 4,000"


@pytest.mark.parametrize(("share", "step"), [(0.0, 0), (0.5, 100), (0.4999, 99), (0.2, 40), (0.1999, 8), (1.0, 200)])
def test_a_share_is_the_nearest_counted_step_at_or_before_it(share: float, step: int) -> None:
    values = np.repeat(np.array(STEPS)[:, None] / 1000, 3, axis=1)
    figure = draw_one([measure_series(values)], [{"share": share}])
    assert heights(figure.axes[0].lines[0])[0] == step / 1000


def test_rounding_does_not_lose_a_step() -> None:
    assert 0.29 * 100 < 29
    figure = draw_one([measure_series([[0.1] * 3, [0.2] * 3, [0.3] * 3], [0, 29, 100])], [{"share": 0.29}])
    assert heights(figure.axes[0].lines[0])[0] == 0.2


@pytest.mark.parametrize("measure", ["relative_entropy", "distinct_patterns", "net_pattern_changes"])
@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
def test_undefined_and_constant_values_can_be_drawn(measure: str, value: float) -> None:
    given = measure_series([[value, value, 0.5], [value] * 3], [0, 1], measure)
    figure = draw_one([given, given], [{"step": 0}, {"step": 1}])
    figure.draw_without_rendering()
    np.testing.assert_array_equal(heights(figure.axes[1].lines[0]), [value] * 3)
    draw_one([measure_series([[value] * 3], [0], measure)]).draw_without_rendering()


def test_measures_over_decades_are_drawn_on_a_logarithmic_axis() -> None:
    figure = draw_one([measure_series([[10, 1e4, 1e6]], [0], "distinct_patterns")])
    assert figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_ylim()
    assert 0 < low <= 10 < 1e6 <= high


def test_all_type_is_readable_and_titles_do_not_meet() -> None:
    many = {f"A long name of a network, {number}": COLUMNS["ToyNet"] for number in range(6)}
    figure = draw_all(runs={"toy8": "T8", "toy14": "T14"}, columns=many, title="Together")
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "Together"
    assert figure.get_figwidth() == 7.1
    boxes = [axes.title.get_window_extent() for axes in panels(figure)[0]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    labels = [row[0].yaxis.label.get_window_extent() for row in panels(figure)]
    assert all(above.y0 > below.y1 for above, below in pairwise(labels))
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    assert min(float(text.get_fontsize()) for text in texts) >= 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "at least one run and measure, but got 0 and 1"),
        ({"measures": ["entropy", "occupancy"]}, "measure of run 'res8': unknown 'entropy'; did you mean 'relative"),
        ({"measures": ["relative_entropy"] * 2}, "measures: expected exactly one, but got relative_entropy, relative"),
        ({"columns": {}}, "columns: expected at least one, but got none"),
        ({"columns": {**COLUMNS, "A": []}}, "column 'A': expected at least one run, but got none"),
        ({"columns": {"A": ["toy80"]}}, "run of column 'A': unknown 'toy80'; did you mean 'toy8'"),
        ({"columns": {"A": ["res8"]}}, "columns: expected every run in a column, but 'res14' is in none"),
        (
            {"columns": {**COLUMNS, "A": ["res8", "toy14", "toy8"]}},
            "column 'A': expected runs of different depths, but got 'res8' and 'toy8', both of 7 layers",
        ),
        ({"moments": []}, "moments: expected at least one, but got none"),
        ({"moments": [{"title": "end"}]}, "expected either step or share, but got {'title': 'end'}"),
        ({"moments": [{"step": 0, "share": 0.0}]}, "expected either step or share, but got {'step': 0, 'share': 0.0}"),
        ({"moments": [{"steps": 0}]}, "key of a moment: unknown 'steps'; did you mean 'step'"),
        ({"moments": [{"share": 1.5}]}, "share: expected 0 to 1, but got 1.5"),
        ({"moments": [{"step": 41}]}, r"counted step of 'res8' \(the nearest: 40 and 99\), but got 41"),
        ({"moments": [{"step": 201}]}, r"\(the nearest: 200\), but got 201"),
        ({"moments": [{"step": -1}]}, r"\(the nearest: 0\), but got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^profiles: .*{message}"):
        draw_all(**change)


def test_a_share_before_the_first_counted_step_is_refused() -> None:
    late = measure_series([[0.5] * 3] * 2, [50, 100])
    with pytest.raises(ValueError, match="of 'run' at or before step 40, but the first is 50"):
        draw_one([late], [{"share": 0.4}])
