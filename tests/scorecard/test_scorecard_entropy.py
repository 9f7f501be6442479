"""Claims 8, 9 and 10 on hand-made runs."""

from __future__ import annotations

import numpy as np
import pytest
from scorecard_runs import check, layers, line, networks, run

from reluscope.scorecard import RunResult, entropy

ALL = ("toynet", "convnet", "resnet")
DROP, END = 39100, 78200


def at(**steps: object) -> list[RunResult]:
    return networks(*ALL, relative_entropy={int(step[1:]): values for step, values in steps.items()})


def falls(toynet: float, convnet: float, resnet: float) -> list[RunResult]:
    """By so much from step 0 to step 8."""
    drops = {"toynet": toynet, "convnet": convnet, "resnet": resnet}
    return [run(family, relative_entropy={0: 0.9, 8: 0.9 - drop}) for family, drop in drops.items()]


def spreads(initial: float, at_40: float, before_drop: float, end: float) -> list[RunResult]:
    """Three seeds, spread by so much on either side of 0.5."""
    by_step = {0: initial, 40: at_40, DROP: before_drop, END: end}
    return [
        run(family, seed=seed, relative_entropy={step: 0.5 + side * spread for step, spread in by_step.items()})
        for family in ("convnet", "toynet")
        for seed, side in enumerate((-1, 0, 1))
    ]


def zigzags(at_40: float, end: float) -> list[RunResult]:
    """Even layers, which follow a shortcut, stand out by so much from a line that rises with depth."""
    line = 0.5 + 0.01 * np.arange(19)
    even = np.arange(19) % 2 == 0
    return networks("resnet", relative_entropy={40: (line + at_40 * even).tolist(), END: (line + end * even).tolist()})


EXAMPLES = {
    "8a": (at(s0=(0.5, 0.6, 0.7)), at(s0=(0.5, 0.7, 0.6))),
    "8b": (at(s0=layers(0.9, layer0=0.54)), at(s0=layers(0.9, layer0=0.56))),
    "8c": (at(s0=layers(0.5, layer18=0.96)), at(s0=layers(0.5, layer18=0.94))),
    "8d": (at(s0=0.8, s8=0.7), at(s0=0.8, s8=0.9)),
    "8e": (falls(0.3, 0.2, 0.1), falls(0.3, 0.1, 0.2)),
    "9a": (spreads(0.01, 0.05, 0.02, 0.01), spreads(0.01, 0.02, 0.05, 0.01)),
    "9b": (spreads(0.01, 0.05, 0.02, 0.02), spreads(0.01, 0.05, 0.02, 0.04)),
    "10a": (zigzags(0.1, 0.0), zigzags(-0.1, 0.2)),
    "10b": (zigzags(0.1, 0.2), zigzags(0.2, 0.1)),
    "10c": (
        networks("resnet", relative_entropy={END: (0.5, 0.5, 0.96)}),
        networks("resnet", relative_entropy={END: (1.0, 1.0, 0.94)}),
    ),
}


@pytest.mark.parametrize("number", [claim.number for claim in entropy.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_zigzag_is_the_height_of_the_teeth() -> None:
    assert line("10a", zigzags(0.1, 0.2)).ours == "0.1"
    assert entropy.zigzag(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(0)  # no teeth on a slope


def test_zigzag_ignores_steps_between_stages() -> None:
    assert line("10a", networks("resnet", relative_entropy={40: (0.1, 0.9, 0.4)})).ours == "0"


def test_spread_is_the_standard_deviation() -> None:
    """Of 0.5 - s, 0.5 and 0.5 + s: s."""
    expected = "at step 0 0.01, at step 40 0.05, before the drop 0.02, at the end 0.03"
    assert line("9a", spreads(0.01, 0.05, 0.02, 0.03)).ours == f"ConvNet-20: {expected}; ToyNet-20: {expected}"


def test_spread_needs_two_seeds() -> None:
    one_seed = [run for run in spreads(0.01, 0.05, 0.02, 0.01) if run.seed == 0]
    assert line("9a", one_seed).where == "only one seed has the checkpoints, the spread needs two or more"
