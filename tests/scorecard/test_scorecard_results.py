"""Which checkpoints a claim is given."""

from __future__ import annotations

import numpy as np
import pytest
from scorecard_runs import CIFAR10, run

from reluscope.scorecard.results import MissingError, Reading


def reading(*steps: int, epochs: int = 200) -> Reading:
    """A run whose only measure is the step at which it was counted; short ones are of other data than the paper's."""
    data = CIFAR10 if epochs == 200 else {**CIFAR10, "num_images": 49_999}
    return Reading(run("resnet", data=data, epochs=epochs, relative_entropy={step: step for step in steps}))


def test_the_paper_s_numbers_need_a_training_as_long_as_the_paper_s() -> None:
    short = Reading(run("resnet", epochs=5, relative_entropy={0: 0, 1955: 1}))
    with pytest.raises(MissingError, match="trained for 5 epochs, the paper's for 200"):
        short.at_end("relative_entropy")
    with pytest.raises(MissingError, match="the training ends at step 1955, before 3,000"):
        short.after_early_phase("relative_entropy")


def test_the_last_of_the_first_ten_steps() -> None:
    assert reading(0, 1, 8, 11).after_first_steps("relative_entropy")[0] == 8


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"),
    [((0, 2999, 3000, 3128), 200, 3000), ((2737, 3128), 200, 3128), ((0, 391, 1955), 5, 1955)],
)
def test_the_end_of_the_early_phase(steps: tuple[int, ...], epochs: int, expected: int) -> None:
    assert reading(*steps, epochs=epochs).after_early_phase("relative_entropy")[0] == expected


def test_more_than_half_an_epoch_off_is_missing() -> None:
    with pytest.raises(MissingError, match="not counted at any step from 2804 to 3196"):
        reading(0, 2800, 3200).after_early_phase("relative_entropy")


def test_during_notes_the_steps_and_refuses_gaps() -> None:
    one = reading(0, 10, 20, 30, 50)
    steps, values = one.during("relative_entropy", 5, 30, gap=10)
    assert steps.tolist() == values[:, 0].tolist() == [10, 20, 30]
    assert one.steps == {10, 20, 30}
    for first, last in ((0, 50), (0, 45), (31, 49)):  # between two, before the last border, nothing at all
        with pytest.raises(MissingError, match=f"at least every 10 steps from {first} to {last}"):
            one.during("relative_entropy", first, last, gap=10)


def test_throughout_needs_both_ends() -> None:
    steps = range(0, 1955, 391)
    for given in (steps, range(391, 1956, 391)):
        with pytest.raises(MissingError, match="not counted at step"):
            reading(*given, epochs=5).throughout("relative_entropy")
    time, values = reading(*steps, 1955, epochs=5).throughout("relative_entropy")
    np.testing.assert_allclose(time, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(values[:, 3], time * 1955)


def test_the_first_drop_of_the_learning_rate() -> None:
    """Epoch 100 of 200: step 39,100 is the last made with the initial learning rate."""
    assert reading(0).first_drop == 39_100


def test_stages() -> None:
    """7, 6 and 6 layers of ResNet-20."""
    one = reading(0)
    values = np.array([7.0] * 7 + [6.0] * 6 + [5.0, 3.0] * 3)
    assert one.by_stage("relative_entropy", values).tolist() == [7, 6, 4]
    assert one.by_stage("relative_entropy", np.stack([values, values])).shape == (2, 3)
    assert [int(one.stage("relative_entropy", number).sum()) for number in (1, 2, 3)] == [7, 6, 6]
