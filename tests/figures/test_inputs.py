"""Series of several seeds, against values worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reluscope.figures.inputs import deviation_over_seeds, mean_over_seeds, stage_starts
from reluscope.series import MeasureSeries


def series(values: list[list[float]], first_step: int = 0) -> MeasureSeries:
    steps = np.arange(first_step, first_step + len(values))
    return MeasureSeries("entropy", np.array(values), steps, steps / 10, ["a", "b"], np.array([0, 1]))


SEEDS = [series([[1, 5], [0, 2]]), series([[2, 5], [0, np.nan]]), series([[6, 5], [3, 4]])]


def test_the_mean_over_seeds() -> None:
    mean = mean_over_seeds(SEEDS)
    np.testing.assert_array_equal(mean.values, [[3, 5], [1, np.nan]])
    assert (mean.measure, mean.layer_name, mean.step.tolist()) == ("entropy", ["a", "b"], [0, 1])
    np.testing.assert_array_equal(mean_over_seeds(SEEDS[1:2]).values, SEEDS[1].values)


def test_the_standard_error_of_the_mean_is_that_of_all_seeds() -> None:
    """Of independent ones the root of the sum of squares over their number: sqrt(3^2 + 4^2) / 2; exact ones add 0."""
    errors = [np.array([[3.0, 0], [1, 0]]), np.array([[4.0, 0], [0, np.nan]])]
    one, two = (dataclasses.replace(s, standard_error=e) for s, e in zip(SEEDS, errors, strict=False))
    np.testing.assert_array_equal(mean_over_seeds([one, two]).standard_error, [[2.5, 0], [0.5, np.nan]])
    np.testing.assert_array_equal(mean_over_seeds([SEEDS[1], one]).standard_error, [[1.5, 0], [0.5, 0]])
    np.testing.assert_array_equal(mean_over_seeds([two]).standard_error, errors[1])
    assert mean_over_seeds(SEEDS).standard_error is None


def test_the_deviation_over_seeds_is_that_of_a_sample() -> None:
    deviation = deviation_over_seeds(SEEDS)
    assert deviation is not None
    np.testing.assert_allclose(deviation, np.array([[7**0.5, 0], [3**0.5, np.nan]]))  # (4 + 1 + 9) / 2, (1 + 1 + 4) / 2
    assert deviation_over_seeds(SEEDS[:1]) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (series([[1, 5], [0, 2]], first_step=1), "the same step, but got 2 from 0 to 1 and 2 from 1 to 2"),
        (series([[1, 5]]), "the same step, but got 2 from 0 to 1 and 1 from 0 to 0"),
        (dataclasses.replace(SEEDS[0], layer_name=["a", "c"]), "the same layer_name, but got 2 from a to b and 2 fr"),
        (dataclasses.replace(SEEDS[0], measure="occupancy"), "the same measure, but got entropy and occupancy"),
        (
            dataclasses.replace(SEEDS[0], stage=np.array([0, 0])),
            "the same stage, but got 2 from 0 to 1 and 2 from 0",
        ),
        (dataclasses.replace(SEEDS[0], class_name=["cat"]), "the same class_name, but got none and 1 from cat to cat"),
    ],
)
def test_seeds_that_differ_are_refused(other: MeasureSeries, message: str) -> None:
    with pytest.raises(ValueError, match=f"seeds of one run: expected {message}"):
        mean_over_seeds([SEEDS[0], other])
    with pytest.raises(ValueError, match=message):
        deviation_over_seeds([SEEDS[0], other])


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one series, but got none"):
        mean_over_seeds([])


def test_stages_start_where_the_stage_changes() -> None:
    assert stage_starts(np.array([0, 0, 0, 1, 1, 2])) == [3, 5]
    assert stage_starts(np.array([0, 0])) == []
