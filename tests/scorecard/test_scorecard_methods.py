"""Claims 12, 14 and 15c to 15e on hand-made runs."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from scorecard_runs import Curve, check, line, run

from reluscope.scorecard import RunResult, methods

SETTINGS = {
    "stepwise": ("stepwise", "relu"),
    "prelu": ("stepwise", "prelu"),
    "cyclic": ("cyclic", "relu"),
    "one_cycle": ("one_cycle", "relu"),
}


def drop(depth: float, stage: int | None = None) -> Curve:
    """0.9 but for a valley of that depth at a twentieth of the training, in one stage or all."""

    def curve(time: float) -> list[float]:
        return [0.9 - depth if time == 0.05 and stage in (None, s) else 0.9 for s in (1, 2, 3)]

    return curve


def under(family: str, **curves: Curve) -> list[RunResult]:
    """Runs of one network under several methods."""
    return [run(family, *SETTINGS[name], relative_entropy=curve) for name, curve in curves.items()]


def flat(*stages: float) -> Curve:
    return lambda time: stages


def prelu_valley(depth: float, stage: int) -> list[RunResult]:
    """PReLU's valley of that depth, all others' of 0.2."""
    others = {name: drop(0.2, stage) for name in ("stepwise", "cyclic", "one_cycle")}
    return under("resnet", prelu=drop(depth, stage), **others)


def pyramidnet(*layers: float) -> list[RunResult]:
    """Relative entropy rises from 0.5 by so much in each layer."""
    end = [0.5 + gain for gain in layers]
    return [run("pyramidnet", relative_entropy={0: 0.5, 78200: end})]


def figure_3(fixup: Curve) -> list[RunResult]:
    """FixUp, and all other methods of Figure 3 at 0.5."""
    others = {name: flat(0.5, 0.5, 0.5) for name in SETTINGS}
    rest = [*under("resnet", **others), *under("convnet", **others)]
    rest.append(run("pyramidnet", relative_entropy=flat(0.5, 0.5, 0.5)))
    return [run("fixup_resnet", relative_entropy=fixup), *rest]


def early_examples(family: str) -> tuple[list[RunResult], list[RunResult]]:
    return (
        under(family, stepwise=drop(0.3), cyclic=drop(0.2), one_cycle=drop(0.1)),
        under(family, stepwise=drop(0.3), cyclic=drop(0.2), one_cycle=drop(0.4)),
    )


def end_examples(family: str) -> tuple[list[RunResult], list[RunResult]]:
    high, low = flat(0.5, 0.5, 0.9), flat(0.9, 0.9, 0.8)
    return (
        under(family, stepwise=high, cyclic=low, one_cycle=low),
        under(family, stepwise=low, cyclic=low, one_cycle=high),
    )


EXAMPLES = {
    "12a": early_examples("convnet"),
    "12b": end_examples("convnet"),
    "12c": early_examples("resnet"),
    "12d": end_examples("resnet"),
    "14a": (prelu_valley(0.1, stage=2), prelu_valley(0.3, stage=2)),
    "14b": (prelu_valley(0.1, stage=3), prelu_valley(0.3, stage=3)),
    "14c": (prelu_valley(0.3, stage=1), prelu_valley(0.1, stage=1)),
    "15c": (
        pyramidnet(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.1, 0.1, 0.1, -0.1),
        pyramidnet(0.1, 0.1, 0.1, 0.1, 0.1, -0.1, -0.1, 0.1, 0.1, -0.1),
    ),
    "15d": (figure_3(flat(0.4, 0.9, 0.9)), figure_3(flat(0.6, 0.1, 0.1))),
    "15e": (figure_3(flat(0.9, 0.9, 0.4)), figure_3(flat(0.1, 0.1, 0.6))),
}


@pytest.mark.parametrize("number", [claim.number for claim in methods.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_pyramidnet_must_lose_in_both_layers() -> None:
    found = line("15c", pyramidnet(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.1, 0.1, 0.1, 0.2))
    assert (found.agrees, found.ours) == ("differs", "larger of layers 6 and 9 0.2, smallest of the others 0.1")


def test_counting_one_run_more_often_does_not_decide_who_drops_most() -> None:
    """The same curve for all methods, with a valley at step 40 that only a run counted at every step shows."""

    def counted_at(steps: Iterable[int]) -> dict[int, float]:
        return {step: 0.5 if step == 40 else 0.9 for step in steps}

    fine = run("resnet", relative_entropy=counted_at([*range(3001), *range(3128, 78_201, 391)]))
    coarse = [
        run("resnet", "cyclic", relative_entropy=counted_at(range(0, 39_101, 391))),
        run("resnet", "one_cycle", relative_entropy=counted_at(range(0, 9_801, 196))),
    ]
    assert line("12c", [fine, *coarse]).agrees == "differs"
