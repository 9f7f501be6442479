"""Claims 5 and 6: which patterns change, and how much weight the most frequent one has."""

from __future__ import annotations

import numpy as np

from reluscope.scorecard.claims import Claim, Setting, about, at_most, below, percent, plain
from reluscope.scorecard.results import FIRST_STEPS, Reading

CHANGES = "pattern_changes"
MOST_FREQUENT = "most_frequent_pattern"

CONVNET = (Setting("convnet", paper_data=True),)

FEW_HUNDRED = 300
"""The paper's "after a few hundred training iterations", in steps."""


def step_of_most_changes(reading: Reading) -> float:
    """The step with the largest share of changed patterns, mean over the layers, of all up to 3,000."""
    steps, values = reading.during(CHANGES, 1, reading.end_of_early_phase, gap=1)
    return steps[np.argmax(values.mean(axis=1))]


def highest_weight(reading: Reading) -> float:
    """The largest share of one pattern in any layer within 3,000 steps, counted at least every ten."""
    return reading.during(MOST_FREQUENT, 0, reading.end_of_early_phase, gap=10)[1].max()


def later_weight(reading: Reading) -> float:
    """The largest share of one pattern in any layer but the first, from step 300 to 3,000."""
    _, values = reading.during(MOST_FREQUENT, FEW_HUNDRED, reading.end_of_early_phase, gap=reading.run.steps_per_epoch)
    return values[:, 1:].max()


def later_weight_of_last_stage(reading: Reading) -> float:
    """The largest share of one pattern in any layer of the last stage, from step 300 to 3,000."""
    _, values = reading.during(MOST_FREQUENT, FEW_HUNDRED, reading.end_of_early_phase, gap=reading.run.steps_per_epoch)
    return values[:, reading.stage(MOST_FREQUENT, 3)].max()


CLAIMS = (
    Claim(
        number="5",
        name="changes_come_first",
        statement="Most pattern changes happen in the first few steps (the step with the largest share of changed "
        "patterns, mean over the layers, is one of the first 10)",
        paper="first few steps",
        settings=(Setting("toynet"), Setting("convnet"), Setting("resnet")),
        measures=(CHANGES,),
        layers="all",
        value=step_of_most_changes,
        agrees=at_most(FIRST_STEPS),
        show=plain,
        parts=("step",),
    ),
    Claim(
        number="6a",
        name="highest_weight",
        statement="ConvNet-20: some layer's most frequent pattern reaches up to 25% of all observations "
        "(largest of any layer and step up to 3,000)",
        paper="25%",
        settings=CONVNET,
        measures=(MOST_FREQUENT,),
        layers="all",
        value=highest_weight,
        agrees=about(0.25),
        show=percent,
    ),
    Claim(
        number="6b",
        name="later_weight",
        statement="ConvNet-20: after a few hundred steps (300) the most frequent pattern of all layers but the first "
        "stays below 2%",
        paper="2%",
        settings=CONVNET,
        measures=(MOST_FREQUENT,),
        layers="all but the first",
        value=later_weight,
        agrees=below(0.02),
        show=percent,
    ),
    Claim(
        number="6c",
        name="later_weight_of_last_stage",
        statement="ConvNet-20: after a few hundred steps (300) the most frequent pattern of deep layers (all of the "
        "last stage) stays below 0.001%",
        paper="0.001%",
        settings=CONVNET,
        measures=(MOST_FREQUENT,),
        layers="last stage",
        value=later_weight_of_last_stage,
        agrees=below(0.00001),
        show=percent,
    ),
)
