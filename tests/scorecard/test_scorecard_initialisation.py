"""Claims 7 and 16 on hand-made runs."""

from __future__ import annotations

import pytest
from scorecard_runs import check, layers, line, networks, run

from reluscope.scorecard import RunResult, initialisation

ALL = ("toynet", "convnet", "resnet")


def early(lowest: object, families: tuple[str, ...] = ALL) -> list[RunResult]:
    """The similarity is `lowest` at step 392 and 0.9 at the other epochs up to 3,000 steps."""
    values = dict.fromkeys(range(1, 3001, 391), 0.9)
    return networks(*families, weighted_jaccard_to_initial={0: 1.0, **values, 392: lowest})


def later(convnet: object, resnet: object) -> list[RunResult]:
    """After 3,000 steps."""
    given = {"convnet": convnet, "resnet": resnet}
    return [run(family, weighted_jaccard_to_initial={0: 1.0, 3000: values}) for family, values in given.items()]


def throughout(lowest: float, end: float) -> list[RunResult]:
    """The similarity falls to `lowest` at a tenth of the training, and is `end` from then on but for a dip at 90%."""

    def curve(time: float) -> float:
        return 1 - time if time < 0.1 else lowest if time == 0.1 else 0.9 * end if time == 0.9 else end

    return networks("convnet", "toynet", weighted_jaccard_to_initial=curve)


def at_end(resnet: object, others: object) -> list[RunResult]:
    given = {"resnet": resnet, "convnet": others, "toynet": others}
    return [run(family, weighted_jaccard_to_initial={78200: values}) for family, values in given.items()]


EXAMPLES = {
    "7a": (early(layers(0.0, layer2=0.164)), early(layers(0.0, layer2=0.166))),
    "7b": (early(layers(0.1, layer9=0.004)), early(layers(0.1, layer9=0.006))),
    "7c": (early(0.05, ("toynet",)), early(0.06, ("toynet",))),
    "7d": (
        networks("toynet", weighted_jaccard_to_initial={3000: 0.10}),
        networks("toynet", weighted_jaccard_to_initial={3000: 0.03}),
    ),
    "7e": (later((0.2, 0.1, 0.1), (0.2, 0.1, 0.1)), later((0.2, 0.1, 0.1), (0.1, 0.1, 0.2))),
    "7f": (later(0.1, 0.2), later(0.2, 0.1)),
    "7g": (later((0.1, 0.1, 0.1), (0.3, 0.2, 0.2)), later((0.1, 0.1, 0.1), (0.2, 0.3, 0.2))),
    "16a": (at_end(layers(0.0, layer1=0.3), 0.2), at_end(layers(0.0, layer1=0.3), layers(0.0, layer4=0.4))),
    "16b": (throughout(0.49, 0.8), throughout(0.51, 0.8)),
    "16c": (throughout(0.1, 0.15), throughout(0.1, 0.1)),
}


@pytest.mark.parametrize("number", [claim.number for claim in initialisation.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_resnet_below_convnet_leads_nowhere() -> None:
    """The difference is largest, because least negative, in the first stage."""
    assert line("7g", later((0.3, 0.3, 0.3), (0.2, 0.1, 0.1))).agrees == "differs"
