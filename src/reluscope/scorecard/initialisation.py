"""Claims 7 and 16: how much of the initialisation is kept."""

from __future__ import annotations

import numpy as np

from reluscope.scorecard.claims import (
    Claim,
    Setting,
    above,
    below,
    first_is_largest,
    percent,
    plain,
    whole_percent,
)
from reluscope.scorecard.results import MissingError, Numbers, Reading

INITIAL = "weighted_jaccard_to_initial"

NETWORKS = (Setting("toynet", paper_data=True), Setting("convnet", paper_data=True), Setting("resnet", paper_data=True))
TOYNET = NETWORKS[:1]
RESNET_FIRST = (Setting("resnet"), Setting("convnet"))


def early(reading: Reading) -> Numbers:
    """The similarity to step 0 from step 1 to 3,000, counted at least every epoch.  Shape [step, layer]."""
    return reading.during(INITIAL, 1, reading.end_of_early_phase, gap=reading.run.steps_per_epoch)[1]


def best_layer(reading: Reading) -> float:
    """Each layer's lowest similarity within 3,000 steps: the highest of them."""
    return early(reading).min(axis=0).max()


def worst_layer(reading: Reading) -> float:
    """Each layer's lowest similarity within 3,000 steps: the lowest of them."""
    return early(reading).min(axis=0).min()


def lowest_mean(reading: Reading) -> float:
    """The lowest similarity, mean over the layers, within 3,000 steps."""
    return early(reading).mean(axis=1).min()


def later_mean(reading: Reading) -> float:
    """The similarity after 3,000 steps, mean over the layers."""
    return reading.after_early_phase(INITIAL).mean()


def narrow_above_wide(reading: Reading) -> float:
    """Similarity after 3,000 steps: mean over the layers with the fewest channels (16) less that of the others."""
    values = reading.after_early_phase(INITIAL)
    channels = np.asarray(reading.run.num_channels)
    narrow = channels == channels.min()
    if narrow.all():
        raise MissingError(f"{reading.run.name}: all layers have {channels[0]} channels")
    return values[narrow].mean() - values[~narrow].mean()


def later_by_stage(reading: Reading) -> Numbers:
    """The similarity after 3,000 steps, mean over each stage."""
    return reading.by_stage(INITIAL, reading.after_early_phase(INITIAL))


def lead_is_largest_in_first_stage(resnet: Numbers, convnet: Numbers) -> bool:
    """ResNet-20 is above ConvNet-20 in the first stage, by more than in the others."""
    lead = resnet - convnet
    return bool(lead[0] > max(0.0, *lead[1:]))


def best_layer_at_end(reading: Reading) -> float:
    """The layer with the highest similarity at the end."""
    return reading.at_end(INITIAL).max()


def lowest_throughout(reading: Reading) -> float:
    """The lowest similarity, mean over the layers, of the whole training."""
    return reading.throughout(INITIAL)[1].mean(axis=1).min()


def found_again(reading: Reading) -> float:
    """Similarity at the end minus the lowest in the first half of the training, means over the layers."""
    time, values = reading.throughout(INITIAL)
    return reading.at_end(INITIAL).mean() - values[time <= 0.5].mean(axis=1).min()


CLAIMS = (
    Claim(
        number="7a",
        name="best_layer_keeps",
        statement="Similarity to step 0 within 3,000 steps: falls to 16% in the best case, the layer that keeps most",
        paper="at most 16%",
        settings=NETWORKS,
        measures=(INITIAL,),
        layers="all",
        value=best_layer,
        agrees=whole_percent(0, 16),
        show=percent,
    ),
    Claim(
        number="7b",
        name="worst_layer_keeps",
        statement="Similarity to step 0 within 3,000 steps: falls to 0% in the worst case, the layer that keeps least "
        "(of the three networks, rounded to whole percent)",
        paper="0%",
        settings=NETWORKS,
        measures=(INITIAL,),
        layers="all",
        value=worst_layer,
        agrees=lambda *means: whole_percent(0, 0)(min(means, key=lambda mean: mean[0])),
        show=percent,
    ),
    Claim(
        number="7c",
        name="toynet_falls",
        statement="ToyNet-20: similarity to step 0 falls to 1-5% (mean over the layers, lowest within 3,000 steps)",
        paper="1-5%",
        settings=TOYNET,
        measures=(INITIAL,),
        layers="all",
        value=lowest_mean,
        agrees=whole_percent(1, 5),
        show=percent,
    ),
    Claim(
        number="7d",
        name="toynet_finds_again",
        statement="ToyNet-20: similarity to step 0 is 4-10% later (mean over the layers, after 3,000 steps)",
        paper="4-10%",
        settings=TOYNET,
        measures=(INITIAL,),
        layers="all",
        value=later_mean,
        agrees=whole_percent(4, 10),
        show=percent,
    ),
    Claim(
        number="7e",
        name="narrow_layers_keep_most",
        statement="ConvNet-20 and ResNet-20: similarity to step 0 is largest in the layers of 16 filters (the fewest) "
        "(after 3,000 steps: mean over them less mean over the others)",
        paper="above 0",
        settings=(Setting("convnet"), Setting("resnet")),
        measures=(INITIAL,),
        layers="all",
        value=narrow_above_wide,
        agrees=above(0),
        show=plain,
    ),
    Claim(
        number="7f",
        name="resnet_keeps_more",
        statement="Similarity to step 0: ResNet-20 is above ConvNet-20 (mean over the layers, after 3,000 steps)",
        paper="ResNet-20 above",
        settings=RESNET_FIRST,
        measures=(INITIAL,),
        layers="all",
        value=later_mean,
        agrees=first_is_largest,
        show=percent,
    ),
    Claim(
        number="7g",
        name="resnet_keeps_more_in_first_stage",
        statement="Similarity to step 0: ResNet-20 is above ConvNet-20 most in the lowest stage "
        "(means over a stage, after 3,000 steps: the difference is largest in the first)",
        paper="first stage",
        settings=RESNET_FIRST,
        measures=(INITIAL,),
        layers="all",
        value=later_by_stage,
        agrees=lead_is_largest_in_first_stage,
        show=percent,
        parts=("first", "middle", "last"),
    ),
    Claim(
        number="16a",
        name="resnet_keeps_some_layers",
        statement="ResNet-20 keeps patterns of the initialisation in some layers, unlike ConvNet-20 and ToyNet-20 "
        "(similarity to step 0 at the end, highest layer)",
        paper="ResNet-20 above",
        settings=(*RESNET_FIRST, Setting("toynet")),
        measures=(INITIAL,),
        layers="all",
        value=best_layer_at_end,
        agrees=first_is_largest,
        show=percent,
    ),
    Claim(
        number="16b",
        name="plain_networks_lose_most",
        statement="ConvNet-20 and ToyNet-20 lose most patterns of the initialisation "
        "(lowest similarity to step 0 of the whole training, mean over the layers: below a half)",
        paper="below 50%",
        settings=(Setting("convnet"), Setting("toynet")),
        measures=(INITIAL,),
        layers="all",
        value=lowest_throughout,
        agrees=below(0.5),
        show=percent,
    ),
    Claim(
        number="16c",
        name="plain_networks_find_again",
        statement="ConvNet-20 and ToyNet-20 find some patterns of the initialisation again (similarity to step 0, mean "
        "over the layers: at the end minus the lowest in the first half of the training)",
        paper="above 0",
        settings=(Setting("convnet"), Setting("toynet")),
        measures=(INITIAL,),
        layers="all",
        value=found_again,
        agrees=above(0),
        show=percent,
    ),
)
