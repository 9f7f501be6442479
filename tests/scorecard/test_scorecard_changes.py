"""Claims 5 and 6 on hand-made runs."""

from __future__ import annotations

import pytest
from scorecard_runs import check, layers, line, networks

from reluscope.scorecard import RunResult, changes


def most_changes_at(step: int) -> list[RunResult]:
    every = {s: 2.0 if s == step else 0.1 for s in range(1, 3001)}
    return networks("toynet", "convnet", "resnet", pattern_changes={0: float("nan"), **every})


def peak(weight: float) -> list[RunResult]:
    """One layer's most frequent pattern has that weight once, at step 20."""
    every = {step: layers(0.01, layer3=weight if step == 20 else 0.01) for step in range(0, 3001, 10)}
    return networks("convnet", most_frequent_pattern=every)


def from_step_300(values: list[float]) -> list[RunResult]:
    """Large before."""
    later = dict.fromkeys(range(300, 3001, 300), values)
    return networks("convnet", most_frequent_pattern={0: 0.9, 200: 0.9, **later})


EXAMPLES = {
    "5": (most_changes_at(10), most_changes_at(11)),
    "6a": (peak(0.25), peak(0.31)),
    "6b": (from_step_300(layers(0.0199, layer0=0.5)), from_step_300(layers(0.001, layer1=0.02))),
    "6c": (from_step_300([0.01, 0.01, 0.9e-5]), from_step_300([0.9e-5, 0.9e-5, 1e-5])),
}


@pytest.mark.parametrize("number", [claim.number for claim in changes.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_changes_need_every_step() -> None:
    """Changes over eight steps do not compare with changes over one."""
    found = line("5", networks("toynet", "convnet", "resnet", pattern_changes={1: 2.0, 2: 1.0, 10: 1.0, 3000: 0.1}))
    assert found.agrees == "not in this study"
    assert found.where == "toynet-stepwise-relu-seed0: pattern_changes is not counted every step from 1 to 3000"
