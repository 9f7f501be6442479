"""Claims 12, 14 and 15c to 15e: what methods and architectures do to the relative entropy (Section 3.4, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reluscope.scorecard.claims import Claim, Setting, first_is_largest, first_is_smallest, plain
from reluscope.scorecard.results import Numbers, Reading

ENTROPY = "relative_entropy"

PYRAMIDNET_LOSING = (6, 9)
"""Layers of PyramidNet-20 that lose entropy, counted from 0: with its 10 layers, the first and the last of the last
stage. The paper does not say where it starts to count."""


def figure_3(family: str) -> tuple[Setting, ...]:
    """The methods of Figure 3 that ConvNet-20 and ResNet-20 share: stepwise, cyclic, one-cycle."""
    return tuple(Setting(family, schedule) for schedule in ("stepwise", "cyclic", "one_cycle"))


PRELU_FIRST = (Setting("resnet", activation="prelu"), *figure_3("resnet"))
FIXUP_FIRST = (
    Setting("fixup_resnet"),
    *PRELU_FIRST,
    Setting("convnet", activation="prelu"),
    *figure_3("convnet"),
    Setting("pyramidnet"),
)


def early_drops(reading: Reading, mean: Callable[[Numbers], Numbers]) -> Numbers:
    """Relative entropy at step 0 minus its lowest in the first tenth of the training, both as `mean` of the layers.

    Read at four moments, the same of every training, so that a run which is counted more often than another finds no
    deeper valley for it.
    """
    num_steps = reading.run.num_steps
    about = max(reading.half_epoch, num_steps // 80)
    wanted = [max(round(fortieth * num_steps / 40), 1) for fortieth in (1, 2, 3, 4)]
    values = np.stack([reading.near(ENTROPY, step, max(step - about, 1), step + about) for step in wanted])
    return mean(reading.at(ENTROPY, 0)) - mean(values).min(axis=0)


def early_drop(reading: Reading) -> float:
    """The early drop of the mean over all layers."""
    return float(early_drops(reading, lambda values: values.mean(axis=-1)))


def early_drop_of_stage(stage: int) -> Callable[[Reading], float]:
    """The early drop of the mean over one stage: 1, 2 or 3."""
    return lambda reading: float(early_drops(reading, lambda values: reading.by_stage(ENTROPY, values))[stage - 1])


def final_last_three(reading: Reading) -> float:
    """Relative entropy at the end, mean over the last three layers."""
    return reading.at_end(ENTROPY)[-3:].mean()


def stage_over_time(stage: int) -> Callable[[Reading], float]:
    """Relative entropy of one stage, 1, 2 or 3: mean over its layers and over the time of the training."""

    def value(reading: Reading) -> float:
        time, values = reading.throughout(ENTROPY)
        return float(np.trapezoid(values[:, reading.stage(ENTROPY, stage)].mean(axis=1), time))

    return value


def pyramidnet_gains(reading: Reading) -> list[float]:
    """Relative entropy at the end minus at step 0: the larger of layers 6 and 9, and the smallest of the others."""
    gain = reading.at_end(ENTROPY) - reading.at(ENTROPY, 0)
    losing = list(PYRAMIDNET_LOSING)
    return [gain[losing].max(), np.delete(gain, losing).min()]


def only_these_lose(gains: Numbers) -> bool:
    """Layers 6 and 9 lose, and no other does."""
    return bool(gains[0] < 0 <= gains[1])


def _cyclic_claims(letters: str, family: str, label: str) -> tuple[Claim, Claim]:
    """What cyclic and one-cycle do to one network: the early drop, and the last three layers."""
    return (
        Claim(
            number=f"12{letters[0]}",
            name=f"cycles_dampen_drop_{family}",
            statement=f"{label}: cyclic and one-cycle dampen the early entropy drop (mean over the layers: step 0 "
            "minus the lowest at 2.5, 5, 7.5 and 10% of the training)",
            paper="stepwise drops most",
            settings=figure_3(family),
            measures=(ENTROPY,),
            layers="all",
            value=early_drop,
            agrees=first_is_largest,
            show=plain,
        ),
        Claim(
            number=f"12{letters[1]}",
            name=f"cycles_end_lower_{family}",
            statement=f"{label}: cyclic and one-cycle end with lower relative entropy in the last three layers (mean)",
            paper="stepwise highest",
            settings=figure_3(family),
            measures=(ENTROPY,),
            layers="last three",
            value=final_last_three,
            agrees=first_is_largest,
            show=plain,
        ),
    )


def _prelu_dampens(letter: str, stage: int, label: str) -> Claim:
    return Claim(
        number=f"14{letter}",
        name=f"prelu_dampens_drop_{label}_stage",
        statement=f"ResNet-20: of all methods PReLU dampens the entropy drop most in the {label} stage (mean over the "
        "stage: step 0 minus the lowest at 2.5, 5, 7.5 and 10% of the training)",
        paper="PReLU drops least",
        settings=PRELU_FIRST,
        measures=(ENTROPY,),
        layers=f"{label} stage",
        value=early_drop_of_stage(stage),
        agrees=first_is_smallest,
        show=plain,
    )


def _fixup_is_lowest(letter: str, stage: int, label: str) -> Claim:
    return Claim(
        number=f"15{letter}",
        name=f"fixup_lowest_in_{label}_stage",
        statement=f"FixUp has the lowest relative entropy of all methods in the {label} stage "
        "(mean over the stage and the time of the training)",
        paper="FixUp lowest",
        settings=FIXUP_FIRST,
        measures=(ENTROPY,),
        layers=f"{label} stage",
        value=stage_over_time(stage),
        agrees=first_is_smallest,
        show=plain,
    )


CLAIMS = (
    *_cyclic_claims("ab", "convnet", "ConvNet-20"),
    *_cyclic_claims("cd", "resnet", "ResNet-20"),
    _prelu_dampens("a", 2, "middle"),
    _prelu_dampens("b", 3, "last"),
    Claim(
        number="14c",
        name="prelu_lowers_first_stage",
        statement="ResNet-20: PReLU lowers the relative entropy of the first stage more than ReLU does (mean over the "
        "stage: step 0 minus the lowest at 2.5, 5, 7.5 and 10% of the training)",
        paper="PReLU drops more",
        settings=PRELU_FIRST[:2],
        measures=(ENTROPY,),
        layers="first stage",
        value=early_drop_of_stage(1),
        agrees=first_is_largest,
        show=plain,
    ),
    Claim(
        number="15c",
        name="pyramidnet_loses_in_two_layers",
        statement="PyramidNet-20: only layers 6 and 9 (counted from 0) lose relative entropy (end minus step 0)",
        paper="layers 6 and 9",
        settings=(Setting("pyramidnet", paper_data=True),),
        measures=(ENTROPY,),
        layers="all",
        value=pyramidnet_gains,
        agrees=only_these_lose,
        show=plain,
        parts=("larger of layers 6 and 9", "smallest of the others"),
    ),
    _fixup_is_lowest("d", 1, "first"),
    _fixup_is_lowest("e", 3, "last"),
)
