"""Hand-made runs for the scorecard's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reluscope.scorecard import Line, RunResult, evaluate_all
from reluscope.series import MeasureSeries

STAGE = [0] * 7 + [1] * 6 + [2] * 6
CHANNELS = [16] * 7 + [32] * 6 + [64] * 6
PYRAMIDNET_STAGE = [0] * 3 + [1] * 3 + [2] * 4
STEPS_PER_EPOCH = {"stepwise": 391, "cyclic": 391, "one_cycle": 196}
EPOCHS = {"stepwise": 200, "cyclic": 100, "one_cycle": 50}

DIGITS = {"name": "digits", "num_images": 1_500}
CIFAR10 = {"name": "cifar10", "num_images": 50_000}

Values = Any  # one number for all layers, one a stage, or one a layer
Curve = Callable[[float], Values]


def run(
    family: str,
    schedule: str = "stepwise",
    activation: str = "relu",
    *,
    seed: int = 0,
    data: Mapping[str, Any] = CIFAR10,
    epochs: int | None = None,
    test_accuracy: float | None = None,
    learning_rate: Callable[[float], float] | None = None,
    **measures: Mapping[int, Values] | Curve,
) -> RunResult:
    """A run of the paper's length; a measure is given by step, or as a curve over the share of the training, 0 to 1."""
    epochs = epochs or EPOCHS[schedule]
    num_steps = epochs * STEPS_PER_EPOCH[schedule]
    stage = PYRAMIDNET_STAGE if family == "pyramidnet" else STAGE
    method = {"schedule": schedule, "epochs": epochs} | ({"milestones": [0.5, 0.75]} if schedule == "stepwise" else {})
    return RunResult(
        name=f"{family}-{schedule}-{activation}-seed{seed}",
        network={"name": family, "depth": 20, "activation": activation},
        method=method,
        data=data,
        seed=seed,
        num_steps=num_steps,
        steps_per_epoch=STEPS_PER_EPOCH[schedule],
        num_channels=CHANNELS,
        num_positions=[1000] * len(stage),
        measures={name: _series(name, given, num_steps, stage) for name, given in measures.items()},
        test_accuracy=test_accuracy,
        learning_rate=learning_rate and {step: learning_rate(step / num_steps) for step in range(1, num_steps + 1)},
    )


def _series(name: str, given: Mapping[int, Values] | Curve, num_steps: int, stage: list[int]) -> MeasureSeries:
    if callable(given):
        given = {round(num_steps * share / 100): given(share / 100) for share in range(101)}
    step = np.array(sorted(given), np.int64)
    values = np.array([_layers(given[s], stage) for s in step.tolist()], np.float64)
    return MeasureSeries(name, values, step, step / 391, [f"relu{i}" for i in range(len(stage))], np.array(stage))


def _layers(values: Values, stage: list[int]) -> list[float]:
    if np.ndim(values) == 0:
        return [values] * len(stage)
    return [values[s] for s in stage] if len(values) == 3 else values


def layers(others: float, **special: float) -> list[float]:
    """19 layers: `others`, but for those given as layer3=0.5."""
    return [special.get(f"layer{index}", others) for index in range(19)]


def networks(*families: str, **measures: Mapping[int, Values] | Curve) -> list[RunResult]:
    """Runs of several networks with equal measures, stepwise, ReLU."""
    return [run(family, **measures) for family in families]


def line(number: str, runs: list[RunResult]) -> Line:
    """The scorecard's line of a claim."""
    (found,) = (line for line in evaluate_all(runs) if line.number == number)
    return found


def check(number: str, agreeing: list[RunResult], differing: list[RunResult]) -> None:
    """Both are judged as they should be."""
    assert (line(number, agreeing).agrees, line(number, differing).agrees) == ("agrees", "differs"), [
        line(number, agreeing),
        line(number, differing),
    ]
