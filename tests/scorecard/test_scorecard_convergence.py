"""Claims 11, 13, 15a, 15b and 15f on hand-made runs."""

from __future__ import annotations

import math

import pytest
from scorecard_runs import Curve, check, layers, line, run

from reluscope.scorecard import RunResult, convergence

EPOCH, DROP, END = 391, 39100, 78200
METHODS = {
    "stepwise": ("stepwise", "relu"),
    "prelu": ("stepwise", "prelu"),
    "cyclic": ("cyclic", "relu"),
    "one_cycle": ("one_cycle", "relu"),
}


def default(step: int, values: object) -> list[RunResult]:
    """ConvNet-20, whose similarity is known at one step and at the end."""
    return [run("convnet", weighted_jaccard_to_final={step: values, END: 1.0})]


def last(value: float) -> list[float]:
    return layers(0.9, layer18=value)


def arriving(*when: float) -> Curve:
    """Layers of the three stages that jump from 0 to 1 at these shares of the training, after a visit at the start."""
    return lambda time: [0.6 if time < 0.02 else float(time >= arrival) for arrival in when]


def under(family: str, **curves: Curve) -> list[RunResult]:
    return [run(family, *METHODS[name], weighted_jaccard_to_final=curve) for name, curve in curves.items()]


def one_cycle_examples(family: str, good: Curve, bad: Curve) -> tuple[list[RunResult], list[RunResult]]:
    others = {"stepwise": arriving(0.1, 0.5, 0.9), "cyclic": arriving(0.1, 0.5, 0.9)}
    return under(family, one_cycle=good, **others), under(family, one_cycle=bad, **others)


def figure_3(pyramidnet: Curve, others: Curve, fixup: Curve | None = None) -> list[RunResult]:
    """All the methods of Figure 3."""
    everywhere = dict.fromkeys(METHODS, others)
    return [
        run("pyramidnet", weighted_jaccard_to_final=pyramidnet),
        run("fixup_resnet", weighted_jaccard_to_final=fixup or others),
        *under("resnet", **everywhere),
        *under("convnet", **everywhere),
    ]


def cyclic(waves: float) -> list[RunResult]:
    """Five cycles of the learning rate; the similarity rises linearly, plus waves of that sign."""

    def rate(time: float) -> float:
        return 1 - math.cos(10 * math.pi * time)

    def similarity(time: float) -> float:
        return 0.2 + 0.7 * time + waves * rate(time)

    return [
        run(family, "cyclic", learning_rate=rate, weighted_jaccard_to_final=similarity)
        for family in ("convnet", "resnet")
    ]


def fixup_early(early: float) -> list[RunResult]:
    """FixUp's layers 5, 6, 7, 10, 12 and 16 arrive at `early`, its others at 0.9; all of ResNet-20's at 0.5."""
    special = {5, 6, 7, 10, 12, 16}

    def curve(time: float) -> list[float]:
        return [float(time >= (early if layer in special else 0.9)) for layer in range(19)]

    return [
        run("fixup_resnet", weighted_jaccard_to_final=curve),
        run("resnet", weighted_jaccard_to_final=arriving(0.5, 0.5, 0.5)),
    ]


EVEN, UNEVEN, LATE_BUT_UNEVEN = arriving(0.7, 0.7, 0.8), arriving(0.1, 0.5, 0.9), arriving(0.1, 0.9, 1.0)


def nearly_linear(time: float) -> list[float]:
    """On average over the layers, which converge at different times."""
    return [time**0.5, time, time**2]


EXAMPLES = {
    "11a": (default(5 * EPOCH, (0.55, 0, 0)), default(5 * EPOCH, (0.44, 0.5, 0.5))),
    "11b": (default(DROP, (0, 0.12, 0)), default(DROP, (0.17, 0.23, 0.17))),
    "11c": (default(EPOCH, last(0.05)), default(EPOCH, last(0.04))),
    "11d": (default(DROP, last(0.07)), default(DROP, last(0.08))),
    "11e": (default(DROP + EPOCH, (0.92, 0, 0)), default(DROP + EPOCH, (0.91, 1, 1))),
    "11f": (default(DROP + EPOCH, (0, 0.65, 0)), default(DROP + EPOCH, (0.6, 0.66, 0.6))),
    "11g": (default(DROP + EPOCH, (0, 0, 0.25)), default(DROP + EPOCH, (0.3, 0.3, 0.24))),
    "11h": (default(END - EPOCH, 0.95), default(END - EPOCH, layers(1.0, layer12=0.94))),
    "13a": (cyclic(waves=-0.05), cyclic(waves=0.05)),
    "13b": one_cycle_examples("convnet", arriving(0.6, 0.6, 0.6), arriving(0.4, 0.4, 0.4)),
    "13c": one_cycle_examples("convnet", EVEN, LATE_BUT_UNEVEN),
    "13d": one_cycle_examples("resnet", arriving(0.6, 0.6, 0.6), arriving(0.4, 0.4, 0.4)),
    "13e": one_cycle_examples("resnet", EVEN, LATE_BUT_UNEVEN),
    "15a": (figure_3(EVEN, UNEVEN), figure_3(UNEVEN, UNEVEN, fixup=EVEN)),
    "15b": (figure_3(nearly_linear, EVEN), figure_3(EVEN, EVEN, fixup=nearly_linear)),
    "15f": (fixup_early(0.4), fixup_early(0.6)),
}


@pytest.mark.parametrize("number", [claim.number for claim in convergence.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_waves_are_not_the_trend() -> None:
    """The similarity rises, and the learning rate falls, over the training; within it they move together."""
    runs = [
        run(
            family,
            "cyclic",
            learning_rate=lambda time: 1 - time + 0.1 * math.sin(31 * time),
            weighted_jaccard_to_final=lambda time: time + 0.1 * math.sin(31 * time) if time < 1 else 1.0,
        )
        for family in ("convnet", "resnet")
    ]
    assert line("13a", runs).agrees == "differs"


def test_waves_need_the_learning_rate() -> None:
    runs = [run(family, "cyclic", weighted_jaccard_to_final=lambda time: time) for family in ("convnet", "resnet")]
    assert line("13a", runs).where == "convnet-cyclic-relu-seed0: no learning rate of the counted steps"


def test_arrival_is_when_it_stays() -> None:
    """The visit at the start does not count: stages of 7, 6 and 6 layers arrive at 60%."""
    assert line("13b", EXAMPLES["13b"][0]).ours.startswith("ConvNet-20 one-cycle: 60%")


def test_distance_from_a_line() -> None:
    """A jump from 0 to 1 halfway is 1/2 - t or so from the line t: root mean square 1/sqrt(12)."""
    found = line("15b", figure_3(lambda time: float(time >= 0.5), UNEVEN)).ours
    assert found.startswith(f"PyramidNet-20: {100 / math.sqrt(12):.3g}%")
