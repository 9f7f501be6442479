"""Learning rates and momenta against the paper's numbers and the schedules' closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reluscope.training.methods import METHODS, method_from_config
from reluscope.training.rates import rates


def test_stepwise_drops_at_half_and_three_quarters() -> None:
    table = rates(METHODS["stepwise"], 400)
    drops = np.flatnonzero(np.diff(table.learning_rate)) + 1
    assert drops.tolist() == [200, 300]
    assert np.unique(np.round(table.learning_rate, 12)).tolist() == [0.001, 0.01, 0.1]
    assert np.all(table.momentum == 0.9)


def test_cyclic_is_triangular2() -> None:
    """Peaks in the middle of each of five cycles, the amplitude halved each time; momentum runs against it."""
    table = rates(METHODS["cyclic"], 1000)
    peaks = 100 + 200 * np.arange(5)
    expected = 0.002 + (0.2 - 0.002) / 2.0 ** np.arange(5)
    np.testing.assert_allclose(table.learning_rate[peaks], expected, rtol=1e-9)
    np.testing.assert_allclose(table.learning_rate[200 * np.arange(5)], 0.002, rtol=1e-9)
    assert table.momentum[0] == pytest.approx(0.9)
    assert table.momentum[100] == pytest.approx(0.85 * 0.9)


def test_one_cycle_is_two_cosines() -> None:
    """The closed form of OneCycleLR: 0.08 up to 0.8 within the first tenth, then down to 0.08 / 1000."""
    steps = 500
    table = rates(METHODS["one_cycle"], steps)
    up = 0.1 * steps - 1

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    expected = [
        cosine(0.08, 0.8, s / up) if s <= up else cosine(0.8, 8e-5, (s - up) / (steps - 1 - up)) for s in range(steps)
    ]
    np.testing.assert_allclose(table.learning_rate, expected, rtol=1e-9)
    assert table.momentum.min() == pytest.approx(0.85 * 0.9)


@pytest.mark.parametrize("name", METHODS)
def test_schedules_scale_with_the_number_of_epochs(name: str) -> None:
    short, long = rates(METHODS[name], 200), rates(METHODS[name], 400)
    np.testing.assert_allclose(short.learning_rate[10::20], long.learning_rate[20::40], rtol=0.2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_trainings_of_any_length(name: str, warmup: float) -> None:
    method = method_from_config(name, {"warmup": warmup} if name == "one_cycle" else {})
    for num_steps in [*range(1, 31), 100]:
        table = rates(method, num_steps)
        assert table.learning_rate.shape == table.momentum.shape == (num_steps,)
        assert (table.learning_rate > 0).all()
        assert (table.learning_rate <= method.learning_rate * (1 + 1e-9)).all()
