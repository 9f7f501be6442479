"""What the layer x class pictures show, read back from the figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reluscope.figures.classes import draw
from reluscope.series import MeasureSeries

NAMES = ["cat", "dog", "bird", "frog"]


def series(entropy: int, names: list[str] | None = NAMES, layers: int = 6) -> MeasureSeries:
    shape = (3, layers) if names is None else (3, layers, len(names))
    values = np.random.default_rng(entropy).uniform(2, 5, shape)
    layer_names, stage = [f"relu{i}" for i in range(layers)], np.arange(layers) * 2 // layers
    step = np.array([0, 10, 20])
    return MeasureSeries("entropy_of_each_class", values, step, step / 10, layer_names, stage, None, names)


def draw_some(one: Any = None, **options: Any) -> Figure:
    given = {"a": one or [series(0), series(1)], "b": [series(2)]}
    chosen = {
        "runs": {"a": "Run A", "b": "Run B"},
        "measures": ["entropy_of_each_class"],
        "moments": [{"step": 0, "title": "start"}, {"share": 1.0}],
        **options,
    }
    return draw({run: {"entropy_of_each_class": seeds} for run, seeds in given.items()}, **chosen)


def pictures(figure: Figure) -> list[QuadMesh]:
    return [axes.collections[0] for axes in figure.axes[:-1]]  # the last is the colour bar


def values_of(mesh: QuadMesh) -> NDArray[np.float64]:
    array = mesh.get_array()
    assert array is not None
    return np.ma.filled(array.astype(float), np.nan)


def test_each_shows_a_moment_of_a_run() -> None:
    figure = draw_some()
    mean = (series(0).values + series(1).values) / 2
    expected = [mean[0], series(2).values[0], mean[2], series(2).values[2]]
    for mesh, values in zip(pictures(figure), expected, strict=True):
        np.testing.assert_allclose(values_of(mesh), values)
    limits = {mesh.get_clim() for mesh in pictures(figure)}
    assert limits == {(min(v.min() for v in expected), max(v.max() for v in expected))}
    assert [axes.get_title() for axes in figure.axes[:2]] == ["Run A", "Run B"]
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["start\nstep 0", "100% of training\nstep 20"]


def test_classes_are_named_where_there_is_room() -> None:
    lowest = draw_some().axes[2]
    assert [label.get_text() for label in lowest.get_xticklabels()] == NAMES
    many = draw_some([series(0, [f"class {i}" for i in range(100)])], runs={"a": "Run A"}).axes[1]
    assert not any("class" in label.get_text() for label in many.get_xticklabels())


def test_names_do_not_overlap() -> None:
    figure = draw_some([series(0, ["a rather long", "name of", "some class", "of images"])])
    boxes = [label.get_window_extent() for label in figure.axes[2].get_xticklabels()]
    assert all(not one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_class_without_images_is_not_drawn() -> None:
    one = series(0)
    one.values[:, :, 1] = np.nan
    shown = values_of(pictures(draw_some([one]))[0])
    assert np.isnan(shown[:, 1]).all()
    assert np.isfinite(np.delete(shown, 1, axis=1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"one": [series(0, None)]}, "classes: expected a value a class, but 'entropy_of_each_class' of 'a' has none"),
        ({"moments": []}, "classes: moments: expected at least one, but got none"),
        ({"moments": [{"step": 7}]}, "classes: moments: step: expected a counted step of 'a'"),
        ({"measures": ["entropy_of_each_class"] * 2}, "classes: measures: expected exactly one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_some(**options)
