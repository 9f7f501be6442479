"""Claims 11, 13, 15a, 15b and 15f: how the patterns come to those of the trained network (Section 3.4, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reluscope.scorecard.claims import (
    Agrees,
    Claim,
    Setting,
    about,
    below,
    first_is_largest,
    first_is_smallest,
    percent,
    plain,
    whole_percent,
)
from reluscope.scorecard.methods import FIXUP_FIRST, figure_3
from reluscope.scorecard.results import MissingError, Numbers, Reading

FINAL = "weighted_jaccard_to_final"

DEFAULT = (Setting("convnet", paper_data=True, paper_epochs=True),)
PYRAMIDNET_FIRST = tuple(sorted(FIXUP_FIRST, key=lambda setting: setting.family != "pyramidnet"))

FEW_EPOCHS = 5
"""The paper's "after just a few epochs"."""

FIXUP_EARLY = (5, 6, 7, 10, 12, 16)
"""Layers of FixUp ResNet-20 that find final patterns early, counted from 0, as the other layer numbers."""

ARRIVED = 0.5
"""A layer has converged from where its similarity to the final state stays at least so high."""


def near_epoch(reading: Reading, epoch: int) -> Numbers:
    """The similarity half an epoch about the end of `epoch`, counted from the end where negative.  Shape [layer]."""
    run, half = reading.run, reading.half_epoch
    step = (epoch * run.steps_per_epoch) % run.num_steps
    return reading.near(FINAL, step, step - half, step + half)


def before_drop(reading: Reading) -> Numbers:
    """The similarity within the half epoch before the learning rate first drops.  Shape [layer]."""
    drop = reading.first_drop
    return reading.near(FINAL, drop, drop - reading.half_epoch, drop)


def after_drop(reading: Reading) -> Numbers:
    """The similarity one epoch after the learning rate first drops, or up to half an epoch from it.  Shape [layer]."""
    step, half = reading.first_drop + reading.run.steps_per_epoch, reading.half_epoch
    return reading.near(FINAL, step, step - half, step + half)


def of_stage(stage: int, when: Callable[[Reading], Numbers]) -> Callable[[Reading], float]:
    """The mean over stage 1, 2 or 3 of what `when` gives."""
    return lambda reading: float(when(reading)[reading.stage(FINAL, stage)].mean())


def after_few_epochs(reading: Reading) -> Numbers:
    """The similarity after 5 epochs.  Shape [layer]."""
    return near_epoch(reading, FEW_EPOCHS)


def last_layer_after_one_epoch(reading: Reading) -> float:
    """The last layer's similarity after the first epoch."""
    return near_epoch(reading, 1)[-1]


def last_layer_before_drop(reading: Reading) -> float:
    """The last layer's similarity before the learning rate first drops."""
    return before_drop(reading)[-1]


def lowest_one_epoch_before_end(reading: Reading) -> float:
    """The lowest layer's similarity one epoch before the end, where it is 100% by definition."""
    return near_epoch(reading, -1).min()


def wave(reading: Reading) -> float:
    """Correlation between the changes of the learning rate and of the similarity, mean over the layers.

    Changes are from one counted step to the next, so that what merely grows over the training counts for nothing.
    Step 0, which no learning rate made, is left out.
    """
    time, values = reading.throughout(FINAL)
    rates = reading.run.learning_rate
    steps = np.rint(time[1:] * reading.run.num_steps).astype(int)
    if rates is None or any(step not in rates for step in steps.tolist()):
        raise MissingError(f"{reading.run.name}: no learning rate of the counted steps")
    rate, similarity = np.diff([rates[step] for step in steps.tolist()]), np.diff(values[1:].mean(axis=1))
    if len(rate) < 2 or not rate.std() or not similarity.std():
        raise MissingError(f"{reading.run.name}: learning rate and similarity do not both change")
    return float(np.corrcoef(rate, similarity)[0, 1])


def arrivals(reading: Reading) -> Numbers:
    """The share of the training from which on each layer's similarity stays at least a half.  Shape [layer]."""
    time, values = reading.throughout(FINAL)
    stays = np.logical_and.accumulate(values[::-1] >= ARRIVED)[::-1]
    return time[stays.argmax(axis=0)]


def mean_arrival(reading: Reading) -> float:
    """When the layers arrive, mean over them."""
    return arrivals(reading).mean()


def arrival_spread(reading: Reading) -> float:
    """When the layers arrive, standard deviation over them."""
    return arrivals(reading).std()


def fixup_arrival(reading: Reading) -> float:
    """When layers 5, 6, 7, 10, 12 and 16 arrive, mean over them."""
    return arrivals(reading)[list(FIXUP_EARLY)].mean()


def unevenness_over_time(reading: Reading) -> float:
    """How far the mean similarity of the layers is from rising linearly over the training: root mean square."""
    time, values = reading.throughout(FINAL)
    rise = values.mean(axis=1)
    line = rise[0] + (rise[-1] - rise[0]) * time
    return float(np.sqrt(np.trapezoid((rise - line) ** 2, time)))


def _default(
    letter: str,
    name: str,
    statement: str,
    paper: str,
    layers: str,
    value: Callable[[Reading], float],
    agrees: Agrees,
) -> Claim:
    """A claim on ConvNet-20, stepwise, ReLU."""
    statement = f"ConvNet-20, similarity to the final state: {statement}"
    return Claim(f"11{letter}", name, statement, paper, DEFAULT, (FINAL,), layers, value, agrees, percent)


def _one_cycle_claims(letters: str, family: str, label: str) -> tuple[Claim, Claim]:
    """One-cycle against stepwise and cyclic on one network: late, and evenly."""
    settings = figure_3(family)[::-1]
    return (
        Claim(
            number=f"13{letters[0]}",
            name=f"one_cycle_converges_late_{family}",
            statement=f"{label}: one-cycle converges late (share of the training from which on a layer's similarity to "
            "the final state stays above a half, mean over the layers)",
            paper="one-cycle latest",
            settings=settings,
            measures=(FINAL,),
            layers="all",
            value=mean_arrival,
            agrees=first_is_largest,
            show=percent,
        ),
        Claim(
            number=f"13{letters[1]}",
            name=f"one_cycle_converges_evenly_{family}",
            statement=f"{label}: one-cycle converges most evenly over the layers (share of the training from which on "
            "a layer's similarity to the final state stays above a half, standard deviation over the layers)",
            paper="one-cycle most even",
            settings=settings,
            measures=(FINAL,),
            layers="all",
            value=arrival_spread,
            agrees=first_is_smallest,
            show=percent,
        ),
    )


CLAIMS = (
    _default(
        "a",
        "first_stage_early",
        "first stage about 50% after a few epochs (5)",
        "50%",
        "first stage",
        of_stage(1, after_few_epochs),
        about(0.5),
    ),
    _default(
        "b",
        "middle_stage_before_drop",
        "middle stage about 17% until the first drop of the learning rate",
        "17%",
        "middle stage",
        of_stage(2, before_drop),
        about(0.17),
    ),
    _default(
        "c",
        "last_layer_at_first",
        "the last layer starts at about 5-6% (after one epoch)",
        "5-6%",
        "the last",
        last_layer_after_one_epoch,
        whole_percent(5, 6),
    ),
    _default(
        "d",
        "last_layer_before_drop",
        "the last layer reaches 6-7% until the first drop of the learning rate",
        "6-7%",
        "the last",
        last_layer_before_drop,
        whole_percent(6, 7),
    ),
    *(
        _default(
            letter,
            f"{label}_stage_after_drop",
            f"{label} stage about {share:.0%} within a few steps of the first drop (one epoch)",
            f"{share:.0%}",
            f"{label} stage",
            of_stage(stage, after_drop),
            about(share),
        )
        for letter, stage, label, share in (("e", 1, "first", 0.97), ("f", 2, "middle", 0.6), ("g", 3, "last", 0.3))
    ),
    _default(
        "h",
        "all_layers_at_end",
        "all layers about 100% in the very last epochs (the lowest layer, one epoch before the end)",
        "100%",
        "all",
        lowest_one_epoch_before_end,
        about(1.0),
    ),
    Claim(
        number="13a",
        name="cyclic_waves",
        statement="Cyclic: the similarity to the final state is higher where the learning rate is lower (correlation "
        "of their changes from one counted step to the next, similarity as mean over the layers)",
        paper="below 0",
        settings=(Setting("convnet", "cyclic"), Setting("resnet", "cyclic")),
        measures=(FINAL,),
        layers="all",
        value=wave,
        agrees=below(0),
        show=plain,
    ),
    *_one_cycle_claims("bc", "convnet", "ConvNet-20"),
    *_one_cycle_claims("de", "resnet", "ResNet-20"),
    Claim(
        number="15a",
        name="pyramidnet_even_over_layers",
        statement="PyramidNet-20 converges most evenly over the layers (share of the training from which on a layer's "
        "similarity to the final state stays above a half, standard deviation over the layers)",
        paper="PyramidNet-20 most even",
        settings=PYRAMIDNET_FIRST,
        measures=(FINAL,),
        layers="all",
        value=arrival_spread,
        agrees=first_is_smallest,
        show=percent,
    ),
    Claim(
        number="15b",
        name="pyramidnet_even_over_time",
        statement="PyramidNet-20 converges most evenly over time (similarity to the final state, mean over the layers: "
        "root mean square distance from a linear rise)",
        paper="PyramidNet-20 most even",
        settings=PYRAMIDNET_FIRST,
        measures=(FINAL,),
        layers="all",
        value=unevenness_over_time,
        agrees=first_is_smallest,
        show=percent,
    ),
    Claim(
        number="15f",
        name="fixup_layers_early",
        statement="FixUp: layers 5, 6, 7, 10, 12 and 16 (counted from 0) reach final patterns earlier than in "
        "ResNet-20 (share of the training from which on their similarity to the final state stays above a half, mean)",
        paper="FixUp earlier",
        settings=(Setting("fixup_resnet"), Setting("resnet")),
        measures=(FINAL,),
        layers="5, 6, 7, 10, 12, 16",
        value=fixup_arrival,
        agrees=first_is_smallest,
        show=percent,
    ),
)
