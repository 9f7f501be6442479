"""What the heatmaps show, read back from the figure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from reluscope.figures.heatmaps import cell_edges, draw
from reluscope.series import MeasureSeries

STEPS = [0, 1, 2, 4, 8]


def measure_series(
    measure: str, values: ArrayLike, steps: ArrayLike = STEPS, stage: ArrayLike = (0, 0, 1, 2)
) -> MeasureSeries:
    step, stages = np.asarray(steps, np.int64), np.asarray(stage, np.int64)
    names = [f"relu{layer}" for layer in range(len(stages))]
    return MeasureSeries(measure, np.asarray(values, np.float64), step, step / 4, names, stages)


def random_values(seed: int, layers: int = 4, low: float = 0.2, high: float = 0.8) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(low, high, size=(len(STEPS), layers))


RUNS = {"res": "ResNet-20", "pyramid": "PyramidNet-20"}
SERIES = {
    "res": {
        "relative_entropy": [measure_series("relative_entropy", random_values(0))],
        "distinct_patterns": [measure_series("distinct_patterns", random_values(1, low=10, high=1e6))],
        "net_pattern_changes": [measure_series("net_pattern_changes", random_values(2, low=-3, high=1))],
    },
    "pyramid": {
        "relative_entropy": [measure_series("relative_entropy", random_values(3, layers=2), stage=(0, 0))],
        "distinct_patterns": [measure_series("distinct_patterns", random_values(4, 2, 1, 1e4), stage=(0, 0))],
        "net_pattern_changes": [measure_series("net_pattern_changes", random_values(5, 2, -1, 1), stage=(0, 0))],
    },
}
MEASURES = ["relative_entropy", "distinct_patterns", "net_pattern_changes"]


def draw_one(values: ArrayLike, measure: str = "relative_entropy", **options: Any) -> tuple[Figure, Axes, Any]:
    stage = options.pop("stage", [0] * np.shape(values)[1])
    steps = options.pop("steps", STEPS)
    one = {"run": {measure: [measure_series(measure, values, steps, stage)]}}
    figure = draw(one, runs={"run": "Run"}, measures=[measure], **options)
    return figure, figure.axes[0], mesh_of(figure.axes[0])


def mesh_of(axes: Axes) -> Any:
    (mesh,) = (child for child in axes.collections if isinstance(child, QuadMesh))
    return mesh


def panels(figure: Figure) -> list[Axes]:
    """Row by row, without the colour bars."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize("measures_as", ["rows", "columns"])
def test_one_heatmap_for_each_run_and_measure(measures_as: Any) -> None:
    figure = draw(SERIES, runs=RUNS, measures=MEASURES, measures_as=measures_as)
    assert len(panels(figure)) == 6
    assert len(figure.axes) == 6 + 3  # and one colour bar a measure
    order = [(measure, run) for measure in MEASURES for run in RUNS]
    if measures_as == "columns":
        order = [(measure, run) for run in RUNS for measure in MEASURES]
    for axes, (measure, run) in zip(panels(figure), order, strict=True):
        shown = mesh_of(axes).get_array()
        np.testing.assert_array_equal(shown, SERIES[run][measure][0].values.T)
    titles = [axes.get_title() for axes in panels(figure)][:2]
    labels = [axes.get_ylabel() for axes in panels(figure)][::3]
    assert (titles if measures_as == "rows" else labels) == list(RUNS.values())


def test_seeds_are_averaged() -> None:
    seeds = [measure_series("entropy", [[value, 4]] * 5, stage=(0, 0)) for value in (1.0, 2.0, 6.0)]
    figure = draw({"run": {"entropy": seeds}}, runs={"run": "Run"}, measures=["entropy"])
    np.testing.assert_array_equal(mesh_of(figure.axes[0]).get_array(), [[3.0] * 5, [4.0] * 5])


def test_the_first_layer_is_at_the_bottom() -> None:
    _, axes, mesh = draw_one([[0.1, 0.2, 0.3]] * 5)
    bottom, top = axes.get_ylim()
    assert (bottom, top) == (-0.5, 2.5)
    corners = mesh.get_coordinates()  # [layer + 1, step + 1, xy]
    np.testing.assert_array_equal(corners[:, 0, 1], [-0.5, 0.5, 1.5, 2.5])
    assert mesh.get_array()[0, 0] == 0.1


def test_cells_meet_half_way_between_checkpoints() -> None:
    np.testing.assert_array_equal(cell_edges(np.array([0.0, 1, 2, 4, 8])), [-0.5, 0.5, 1.5, 3, 6, 10])
    np.testing.assert_array_equal(cell_edges(np.array([7.0])), [6.5, 7.5])
    _, axes, mesh = draw_one(random_values(0), time="step")
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], [-0.5, 0.5, 1.5, 3, 6, 10])
    assert axes.get_xlim() == (-0.5, 10)
    _, _, mesh = draw_one(random_values(0), time="epoch")
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], np.array([-0.5, 0.5, 1.5, 3, 6, 10]) / 4)


def test_symlog_cells_meet_half_way_as_drawn() -> None:
    figure, axes, mesh = draw_one(random_values(0)[:4], time="step", scale="symlog", steps=[0, 1, 10, 1000])
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges[2:4], [np.sqrt(10), 100], rtol=1e-9)  # geometric means beyond the linear part
    np.testing.assert_allclose(edges[:2], [-0.5, 0.5], rtol=1e-9)  # the first checkpoint after 0 ends it
    drawn = axes.transData.transform(np.column_stack([[0, 1, 10, 1000], np.zeros(4)]))[:, 0]
    edges_drawn = axes.transData.transform(np.column_stack([edges, np.zeros(5)]))[:, 0]
    np.testing.assert_allclose(edges_drawn[1:-1], (drawn[:-1] + drawn[1:]) / 2)
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10", "100", "1000"]


@pytest.mark.parametrize("scale", ["linear", "symlog"])
@pytest.mark.parametrize("step", [0, 5])
def test_one_single_checkpoint(scale: Any, step: int) -> None:
    figure, axes, mesh = draw_one([[0.25, 0.5]], time="step", scale=scale, steps=[step])
    np.testing.assert_array_equal(mesh.get_array(), [[0.25], [0.5]])
    left, right = axes.get_xlim()
    assert left < step < right
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(step)]


def test_thin_lines_and_numbers_mark_the_stages() -> None:
    figure, axes, _ = draw_one(random_values(0, layers=9), stage=[0, 0, 0, 1, 1, 1, 1, 2, 2])
    lines: Any = axes.lines
    assert [tuple(line.get_ydata()) for line in lines] == [(2.5, 2.5), (6.5, 6.5)]
    np.testing.assert_array_equal(axes.yaxis.get_minorticklocs(), [1.0, 4.5, 7.5])
    figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_yticklabels(minor=True)]
    assert [label[-1] for label in labels] == ["1", "2", "3"]
    _, axes, _ = draw_one(random_values(0))
    assert len(axes.lines) == 0
    assert len(axes.yaxis.get_minorticklocs()) == 0


def test_undefined_values_are_light_grey() -> None:
    values = random_values(0)
    values[0] = np.nan
    figure, _, mesh = draw_one(values)
    shown = mesh.get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown)[:, 0], True)
    np.testing.assert_array_equal(np.ma.getmaskarray(shown)[:, 1:], False)
    figure.draw_without_rendering()
    colors = mesh.get_facecolor().reshape(4, 5, 4)
    np.testing.assert_allclose(colors[:, 0], [to_rgba("0.85")] * 4)
    assert not np.isclose(colors[:, 1:], to_rgba("0.85")).all(axis=-1).any()


@pytest.mark.parametrize("measure", [*MEASURES, "a_new_measure"])
def test_nothing_but_undefined_values_can_be_drawn(measure: str) -> None:
    figure, _, _ = draw_one(np.full((5, 3), np.nan), measure)
    figure.draw_without_rendering()


@pytest.mark.parametrize("measure", [*MEASURES, "a_new_measure"])
@pytest.mark.parametrize("value", [0.0, 1.0, 12.0])
def test_constant_values_can_be_drawn(measure: str, value: float) -> None:
    figure, _, mesh = draw_one(np.full((5, 3), value), measure)
    figure.draw_without_rendering()
    assert mesh.norm.vmin < mesh.norm.vmax


def test_the_heatmaps_of_a_measure_share_their_colours() -> None:
    figure = draw(SERIES, runs=RUNS, measures=MEASURES)
    norms = [mesh_of(axes).norm for axes in panels(figure)]
    assert norms[0] is norms[1]
    assert norms[2] is norms[3]
    assert norms[4] is norms[5]
    distinct = np.concatenate([SERIES[run]["distinct_patterns"][0].values.ravel() for run in RUNS])
    assert isinstance(norms[2], LogNorm)
    assert (norms[2].vmin, norms[2].vmax) == (distinct.min(), distinct.max())
    assert norms[4].vmin == -norms[4].vmax < 0
    assert 0.2 <= norms[0].vmin < norms[0].vmax <= 0.8


def test_measures_that_are_to_be_compared_share_a_scale() -> None:
    names = ["mutual_information", "mutual_information_of_shuffled_labels", "joint_entropy"]
    one = {name: [measure_series(name, random_values(i, low=i, high=i + 1))] for i, name in enumerate(names)}
    figure = draw({"run": one}, runs={"run": "Run"}, measures=names)
    real, shuffled, joint = (mesh_of(axes).get_clim() for axes in figure.axes[:3])
    assert real == shuffled != joint
    assert real[0] < 1 < real[1]
    alone = draw({"run": one}, runs={"run": "Run"}, measures=names[1:])
    assert mesh_of(alone.axes[0]).get_clim()[0] > 1


def test_of_few_checkpoints_no_value_is_beyond_the_scale() -> None:
    """Not the 1 of the final state either, which looked like the largest of the others."""
    values = np.array([[0.03, 0.04, 0.068], [1, 1, 1]])
    _, _, mesh = draw_one(values, "weighted_jaccard_to_final", steps=[0, 3])
    assert mesh.get_clim() == (0.03, 1)
    assert mesh.colorbar.extend == "neither"
    _, _, mesh = draw_one([*values[:1].repeat(4, axis=0), *values[1:]], "weighted_jaccard_to_final")
    assert mesh.get_clim()[1] < 0.1
    assert mesh.colorbar.extend == "max"


def test_no_share_is_beyond_its_bound() -> None:
    """Where all but a few values are close to 0 or 1, the scale ends there, and not at a point that others exceed."""
    values = np.full((50, 4), 0.9998)
    values[:25] = 0.003
    values[0, 0], values[-1, -1] = 0.0, 1.0
    _, _, mesh = draw_one(values, steps=np.arange(50))
    assert mesh.get_clim() == (0, 1)
    assert mesh.colorbar.extend == "neither"


def test_a_colour_bar_leaves_out_the_extremes_by_drawn_area() -> None:
    values = np.arange(1.0, 121.0).reshape(60, 2)
    values[30, 0] = 1e6
    _, _, mesh = draw_one(values, "a_new_measure", steps=np.arange(60), time="step")
    assert (mesh.norm.vmin, mesh.norm.vmax) == (3.0, 119.0)  # 2 % are 2.4 of 120 cells: two below, 120 and 1e6 above
    assert mesh.colorbar.extend == "both"
    # Drawn symlog, the first checkpoint covers far more than 2 %: its values are within.
    values = np.arange(400.0).reshape(200, 2)
    values[0] = 500.0
    for scale, highest in (("linear", 393.0), ("symlog", 500.0)):
        _, _, mesh = draw_one(values, "a_new_measure", steps=np.arange(200), time="step", scale=scale)
        assert mesh.norm.vmax == highest


def test_a_state_compared_with_itself_does_not_stretch_the_colours() -> None:
    values = random_values(0, low=0.01, high=0.1)
    values[0] = 1.0
    _, _, mesh = draw_one(values, "weighted_jaccard_to_initial")
    assert mesh.norm.vmax <= 0.1
    assert mesh.colorbar.extend in ("max", "both")


@pytest.mark.parametrize("measures_as", ["rows", "columns"])
def test_a_logarithmic_scale_of_less_than_two_decades_is_labelled_apart(measures_as: Any) -> None:
    """1,500 to 80,000 holds one power of ten: several labels all the same, and none on another."""
    values = np.geomspace(1_500, 80_000, len(STEPS) * 4).reshape(len(STEPS), 4)
    figure, _, _ = draw_one(values, "distinct_patterns", measures_as=measures_as)
    figure.canvas.draw()
    (bar,) = (axes for axes in figure.axes if axes.get_label() == "<colorbar>")
    axis = bar.yaxis if measures_as == "rows" else bar.xaxis
    ticks = [tick for tick in axis.get_major_ticks() if values.min() <= tick.get_loc() <= values.max()]
    labels = [tick.label2 if tick.label2.get_visible() else tick.label1 for tick in ticks]
    boxes = [label.get_window_extent() for label in labels]
    assert "10k" in [label.get_text() for label in labels]
    assert len(boxes) >= 3
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert len(axis.get_minor_ticks()) == 0


def test_labels() -> None:
    figure = draw(SERIES, runs=RUNS, measures=["relative_entropy"], time="step", title="Together")
    assert figure.get_suptitle() == "Together"
    assert figure.get_supxlabel() == "Step"
    assert figure.get_supylabel() == "Layer"
    assert figure.axes[-1].get_ylabel() == "Relative entropy"
    figure, _, mesh = draw_one(random_values(0), "a_new_measure")
    assert figure.get_supxlabel() == "Epoch"
    assert mesh.colorbar.ax.get_ylabel() == "A new measure"


def test_tick_labels_are_shared_only_where_the_axes_are_alike() -> None:
    runs = {"res": "One", "again": "Two", "pyramid": "Three"}
    figure = draw({**SERIES, "again": SERIES["res"]}, runs=runs, measures=MEASURES[:2])
    figure.draw_without_rendering()
    layers = [any(label.get_visible() for label in axes.get_yticklabels()) for axes in panels(figure)]
    times = [any(label.get_visible() for label in axes.get_xticklabels()) for axes in panels(figure)]
    assert layers == [True, False, True] * 2
    assert times == [False] * 3 + [True] * 3


def test_all_type_is_readable_and_titles_of_twelve_columns_do_not_meet() -> None:
    title = "ConvNet-20, BN + LeakyReLU, stepwise LR"
    many = {f"run{number}": SERIES["res"] for number in range(12)}
    figure = draw(many, runs=dict.fromkeys(many, title), measures=MEASURES)
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in panels(figure)[:12]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    texts = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels())]
    assert min(float(text.get_fontsize()) for text in texts if text.get_text()) >= 6
    assert figure.get_figwidth() <= 11.7 - 1.0  # landscape A4, with margins


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "at least one run and measure, but got 0 and 3"),
        ({"measures": []}, "at least one run and measure, but got 2 and 0"),
        ({"runs": {"ress": "R"}}, r"run: unknown 'ress'; did you mean 'res'\? allowed are res, pyramid$"),
        (
            {"measures": ["entropy"]},
            "measure of run 'res': unknown 'entropy'; did you mean 'relative_entropy'",
        ),
        ({"measures_as": "row"}, "measures_as: unknown 'row'; did you mean 'rows'"),
        ({"time": "iteration"}, "time: unknown 'iteration'; allowed are epoch, step$"),
        ({"scale": "log"}, r"scale: unknown 'log'; did you mean 'symlog'\? allowed are linear, symlog$"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"runs": RUNS, "measures": MEASURES, **change}
    with pytest.raises(ValueError, match=message):
        draw(SERIES, **options)
