"""Claims 2, 3, 4 and 17: how many distinct patterns there are, and how full the paper's hash lists would have been.

Hash lists: the paper names 11.6 GB of GPU memory (Section 3.1), 2.9e9 int32 slots; its published settings 3e8 slots
times a factor for each network (Figures 1 and 3). How they are divided over the layers neither says. Claim 2 shows,
beside the exact counts, what an equal share of 3e8 slots would have shown, from the exact keys; claim 17 takes both
budgets and the best division there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reluscope.scorecard.claims import Agrees, Claim, Setting, above, at_most, below, millions, percent, plain, within
from reluscope.scorecard.results import Numbers, Reading

PUBLISHED_BUDGET = 300_000_000
PUBLISHED_SLOTS = PUBLISHED_BUDGET // 19
MEMORY_BUDGET = 11_600_000_000 // 4

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "occupancy_published": ("occupancy", {"slots": PUBLISHED_SLOTS}),
}
"""Measures with options of their own that claims need: name -> measure, options."""

DISTINCT = "distinct_patterns"
OCCUPANCY = "occupancy_published"

NETWORKS = (Setting("toynet"), Setting("convnet"), Setting("resnet"))
GROWING = (Setting("convnet"), Setting("resnet"))
TOYNET = (Setting("toynet", paper_data=True),)


def with_hash_lists(exact: Numbers, occupied: Numbers) -> list[float]:
    """The most distinct patterns of any layer: counted exactly, and as a hash list of an equal share shows them."""
    return [exact.max(), occupied.max() * PUBLISHED_SLOTS]


def initial_in_stage(stage: int) -> Callable[[Reading], list[float]]:
    """The most distinct patterns in a layer of that stage at step 0."""

    def value(reading: Reading) -> list[float]:
        layers = reading.stage(DISTINCT, stage)
        return with_hash_lists(reading.at(DISTINCT, 0)[layers], reading.at(OCCUPANCY, 0)[layers])

    return value


def after_first_steps(reading: Reading) -> list[float]:
    """The most distinct patterns in any layer after the first steps."""
    return with_hash_lists(reading.after_first_steps(DISTINCT), reading.after_first_steps(OCCUPANCY))


def first_to_fewest(reading: Reading) -> float:
    """Distinct patterns of the first stage over those of the next fewest: means over the layers of a stage."""
    first, middle, last = reading.by_stage(DISTINCT, reading.after_early_phase(DISTINCT))
    return first / min(middle, last)


def middle_to_most(reading: Reading) -> float:
    """Distinct patterns of the middle stage over those of the next most: means over the layers of a stage."""
    first, middle, last = reading.by_stage(DISTINCT, reading.after_early_phase(DISTINCT))
    return middle / max(first, last)


def early_change(reading: Reading) -> float:
    """Distinct patterns of all layers together: after the first steps over at step 0."""
    return reading.after_first_steps(DISTINCT).sum() / reading.at(DISTINCT, 0).sum()


def recovery(reading: Reading) -> float:
    """Distinct patterns of all layers together: after 3,000 steps over their fewest in the first half of these."""
    last = reading.end_of_early_phase
    _, values = reading.during(DISTINCT, 1, last // 2, gap=max(last // 4, 1))
    return reading.after_early_phase(DISTINCT).sum() / values.sum(axis=1).min()


def occupancy_at_best(slots: int) -> Callable[[Reading], float]:
    """How full hash lists of `slots` in total are, divided as well as can be, at the step with the most patterns.

    A list of s slots is expected to use 1 - exp(-d / s) of them for d distinct patterns. Where s is proportional to d,
    all lists are equally full, and the fullest is least full.
    """

    def value(reading: Reading) -> float:
        reading.at(DISTINCT, 0)  # where the most patterns are
        series = reading.series(DISTINCT)
        reading.steps.update(series.step.tolist())
        return float(-np.expm1(-series.values.sum(axis=1).max() / slots))

    return value


def _occupancy(number: str, slots: int, described: str) -> Claim:
    return Claim(
        number=number,
        name=f"hash_list_occupancy_{number}",
        statement="The occupancy of the hash lists stays at or below 15% at every counted step "
        f"({described}, divided over the layers as well as can be)",
        paper="15%",
        settings=tuple(Setting(family, paper_data=True) for family in ("toynet", "convnet", "resnet")),
        measures=(DISTINCT,),
        layers="all",
        value=occupancy_at_best(slots),
        agrees=at_most(0.15),
        show=percent,
    )


def _toynet(
    number: str,
    name: str,
    statement: str,
    paper: str,
    layers: str,
    value: Callable[[Reading], list[float]],
    agrees: Agrees,
) -> Claim:
    """A claim on ToyNet-20, judged by the exact counts, with what hash lists would have shown beside them."""
    parts = ("exact:", "in hash lists of an equal share of 3e8 slots:")
    return Claim(number, name, statement, paper, TOYNET, (DISTINCT, OCCUPANCY), layers, value, agrees, millions, parts)


CLAIMS = (
    _toynet(
        "2a",
        "initial_patterns_first_stage",
        "ToyNet-20 at step 0: at most 22 million distinct patterns in a layer of the first stage",
        "22 million",
        "first stage",
        initial_in_stage(1),
        at_most(22e6),
    ),
    _toynet(
        "2b",
        "initial_patterns_last_stage",
        "ToyNet-20 at step 0: about 2 million distinct patterns in the last stage (its largest layer, rounded)",
        "2 million",
        "last stage",
        initial_in_stage(3),
        within(1.5e6, 2.5e6),
    ),
    _toynet(
        "2c",
        "patterns_after_first_steps",
        "ToyNet-20 after the first steps (step 8, or the nearest counted one of the first 10): at most 3 million "
        "distinct patterns",
        "3 million",
        "all",
        after_first_steps,
        at_most(3e6),
    ),
    Claim(
        number="3a",
        name="first_stage_has_fewest",
        statement="ConvNet-20 and ResNet-20: the first stage has the fewest distinct patterns "
        "(means over a stage after 3,000 steps: first / smaller of the others)",
        paper="below 1",
        settings=GROWING,
        measures=(DISTINCT,),
        layers="all",
        value=first_to_fewest,
        agrees=below(1),
        show=plain,
    ),
    Claim(
        number="3b",
        name="middle_stage_has_most",
        statement="ConvNet-20 and ResNet-20: the middle stage has the most distinct patterns "
        "(means over a stage after 3,000 steps: middle / larger of the others)",
        paper="above 1",
        settings=GROWING,
        measures=(DISTINCT,),
        layers="all",
        value=middle_to_most,
        agrees=above(1),
        show=plain,
    ),
    Claim(
        number="4a",
        name="patterns_drop_first",
        statement="The number of distinct patterns drops after initialisation "
        "(sum over the layers: step 8, or the nearest counted one of the first 10, / step 0)",
        paper="below 1",
        settings=NETWORKS,
        measures=(DISTINCT,),
        layers="all",
        value=early_change,
        agrees=below(1),
        show=plain,
    ),
    Claim(
        number="4b",
        name="patterns_rise_again",
        statement="Then the number of distinct patterns rises slowly "
        "(sum over the layers: after 3,000 steps / fewest in the first half of these)",
        paper="above 1",
        settings=NETWORKS,
        measures=(DISTINCT,),
        layers="all",
        value=recovery,
        agrees=above(1),
        show=plain,
    ),
    _occupancy("17a", PUBLISHED_BUDGET, "3e8 slots, the published settings"),
    _occupancy("17b", MEMORY_BUDGET, "2.9e9 slots, the 11.6 GB of the text"),
)
