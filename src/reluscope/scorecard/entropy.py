"""Claims 8, 9 and 10: relative entropy over the layers of the three networks (Section 3.3, Figure 2)."""

from __future__ import annotations

import numpy as np

from reluscope.scorecard.claims import Claim, Setting, about_tenth, above, below, plain
from reluscope.scorecard.results import MissingError, Numbers, Reading

ENTROPY = "relative_entropy"

NETWORKS = (Setting("toynet"), Setting("convnet"), Setting("resnet"))
ON_PAPER_DATA = tuple(Setting(family, paper_data=True) for family in ("toynet", "convnet", "resnet"))
RESNET = NETWORKS[2:]
SPREADING = (Setting("convnet"), Setting("toynet"))

CLEAR_STEP = 40
"""The step of Figure 2's third row."""


def initial_by_stage(reading: Reading) -> Numbers:
    """Relative entropy at step 0, mean over each stage."""
    return reading.by_stage(ENTROPY, reading.at(ENTROPY, 0))


def rises_over_stages(*means: Numbers) -> bool:
    """In every network each stage is above the one before."""
    return all(bool(np.all(np.diff(stages) > 0)) for stages in means)


def initial_lowest(reading: Reading) -> float:
    """The layer of the lowest relative entropy at step 0."""
    return reading.at(ENTROPY, 0).min()


def initial_highest(reading: Reading) -> float:
    """The layer of the highest relative entropy at step 0."""
    return reading.at(ENTROPY, 0).max()


def early_change(reading: Reading) -> float:
    """Relative entropy after the first steps minus that at step 0, means over the layers."""
    return reading.after_first_steps(ENTROPY).mean() - reading.at(ENTROPY, 0).mean()


def falls_from_toynet_to_resnet(toynet: Numbers, convnet: Numbers, resnet: Numbers) -> bool:
    """ToyNet-20 falls most and ResNet-20 least."""
    return bool(toynet[0] < convnet[0] < resnet[0])


def profile_over_time(reading: Reading) -> Numbers:
    """Relative entropy of every layer at step 0, step 40, before the first drop and at the end, one after the other."""
    drop = reading.first_drop
    before_drop = reading.near(ENTROPY, drop, drop - reading.half_epoch, drop)
    rows = [reading.at(ENTROPY, 0), reading.at(ENTROPY, CLEAR_STEP), before_drop, reading.at_end(ENTROPY)]
    return np.concatenate(rows)


def spread_over_seeds(values: Numbers) -> Numbers:
    """Standard deviation over the seeds, mean over the layers, at the four checkpoints of `profile_over_time`."""
    if len(values) < 2:
        raise MissingError("only one seed has the checkpoints, the spread needs two or more")
    return values.std(axis=0, ddof=1).reshape(4, -1).mean(axis=1)


def spread_is_largest_at_40(*spreads: Numbers) -> bool:
    """Of the four checkpoints, in every network."""
    return all(np.argmax(spread) == 1 for spread in spreads)


def spread_returns(*spreads: Numbers) -> bool:
    """In every network the spread at the end is nearer to that at step 0 than to that at step 40."""
    return all(abs(spread[3] - spread[0]) < abs(spread[3] - spread[1]) for spread in spreads)


def zigzag(values: Numbers) -> float:
    """By how much layers after a shortcut joins exceed the mean of the two beside them; mean over such layers.

    0 where the values rise linearly with depth. `values` are consecutive layers of which the first, third, ... and
    last lie inside a block, before its shortcut joins, and the others follow one.
    """
    return float((values[1::2] - (values[:-2:2] + values[2::2]) / 2).mean())


def zigzags(reading: Reading, values: Numbers) -> list[float]:
    """The zigzag of each stage of ResNet-20, from layers of that stage alone.

    A stage's resolution begins inside its first block, and ends with the layer after its last, whose one neighbour
    belongs to the next stage. In the first stage one more layer comes before, which follows no shortcut.
    """
    first, middle, last = (values[reading.stage(ENTROPY, stage)] for stage in (1, 2, 3))
    return [zigzag(layers[:-1]) for layers in (first[1:], middle, last)]


def zigzag_at_40(reading: Reading) -> float:
    """The mean zigzag of the three stages at step 40."""
    return float(np.mean(zigzags(reading, reading.at(ENTROPY, CLEAR_STEP))))


def zigzag_growth(reading: Reading) -> float:
    """The zigzag of the first stage at the end minus that at step 40."""
    return zigzags(reading, reading.at_end(ENTROPY))[0] - zigzags(reading, reading.at(ENTROPY, CLEAR_STEP))[0]


def final_last_stage(reading: Reading) -> float:
    """Relative entropy at the end, mean over the last stage."""
    return reading.at_end(ENTROPY)[reading.stage(ENTROPY, 3)].mean()


CLAIMS = (
    Claim(
        number="8a",
        name="entropy_rises_with_depth",
        statement="Relative entropy at step 0 rises with depth (mean over a stage: from stage to stage)",
        paper="rises",
        settings=NETWORKS,
        measures=(ENTROPY,),
        layers="all",
        value=initial_by_stage,
        agrees=rises_over_stages,
        show=plain,
        parts=("first", "middle", "last"),
    ),
    Claim(
        number="8b",
        name="initial_entropy_lowest",
        statement="Relative entropy at step 0 begins at about 0.5 (lowest layer, rounded)",
        paper="0.5",
        settings=ON_PAPER_DATA,
        measures=(ENTROPY,),
        layers="all",
        value=initial_lowest,
        agrees=about_tenth(0.5),
        show=plain,
    ),
    Claim(
        number="8c",
        name="initial_entropy_highest",
        statement="Relative entropy at step 0 reaches about 1 (highest layer, rounded)",
        paper="1",
        settings=ON_PAPER_DATA,
        measures=(ENTROPY,),
        layers="all",
        value=initial_highest,
        agrees=about_tenth(1.0),
        show=plain,
    ),
    Claim(
        number="8d",
        name="entropy_falls_first",
        statement="Relative entropy falls within the first steps "
        "(mean over the layers: step 8, or the nearest counted one of the first 10, minus step 0)",
        paper="below 0",
        settings=NETWORKS,
        measures=(ENTROPY,),
        layers="all",
        value=early_change,
        agrees=below(0),
        show=plain,
    ),
    Claim(
        number="8e",
        name="entropy_falls_most_in_toynet",
        statement="Relative entropy falls most for ToyNet-20 and least for ResNet-20 "
        "(mean over the layers: step 8, or the nearest counted one of the first 10, minus step 0)",
        paper="ToyNet-20 < ConvNet-20 < ResNet-20",
        settings=NETWORKS,
        measures=(ENTROPY,),
        layers="all",
        value=early_change,
        agrees=falls_from_toynet_to_resnet,
        show=plain,
    ),
    Claim(
        number="9a",
        name="spread_largest_at_40",
        statement="The spread over seeds is largest at step 40 (standard deviation of relative entropy, mean over the "
        "layers, of steps 0 and 40, before the first drop, and the end)",
        paper="step 40",
        settings=SPREADING,
        measures=(ENTROPY,),
        layers="all",
        value=profile_over_time,
        agrees=spread_is_largest_at_40,
        show=plain,
        parts=("at step 0", "at step 40", "before the drop", "at the end"),
        over_seeds=spread_over_seeds,
    ),
    Claim(
        number="9b",
        name="spread_returns",
        statement="At the end the spread over seeds is back near the initial one (nearer to that than to step 40's)",
        paper="as at step 0",
        settings=SPREADING,
        measures=(ENTROPY,),
        layers="all",
        value=profile_over_time,
        agrees=spread_returns,
        show=plain,
        parts=("at step 0", "at step 40", "before the drop", "at the end"),
        over_seeds=spread_over_seeds,
    ),
    Claim(
        number="10a",
        name="zigzag",
        statement="ResNet-20 at step 40: relative entropy is lower before than after a shortcut joins (layers after "
        "it minus the mean of the two beside them, within each stage). Section 3.3; Section 4.2 says the opposite",
        paper="above 0",
        settings=RESNET,
        measures=(ENTROPY,),
        layers="all",
        value=zigzag_at_40,
        agrees=above(0),
        show=plain,
    ),
    Claim(
        number="10b",
        name="zigzag_strengthens",
        statement="ResNet-20: the zigzag strengthens with training in the first stage (at the end minus at step 40)",
        paper="above 0",
        settings=RESNET,
        measures=(ENTROPY,),
        layers="first stage",
        value=zigzag_growth,
        agrees=above(0),
        show=plain,
    ),
    Claim(
        number="10c",
        name="last_stage_saturates",
        statement="ResNet-20: the last stage ends at a relative entropy near 1 (mean over the stage, rounded)",
        paper="1",
        settings=(Setting("resnet", paper_data=True),),
        measures=(ENTROPY,),
        layers="last stage",
        value=final_last_stage,
        agrees=about_tenth(1.0),
        show=plain,
    ),
)
