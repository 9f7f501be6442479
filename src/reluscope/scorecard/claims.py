"""What a claim is: which runs it looks at, what it computes from each, and when that agrees with the paper.

Numbers that the paper gives with "about" are read off its text and heatmaps: similarities and shares agree within
5 percentage points, relative entropies where they round to the same tenth, pattern numbers where they round to the
same digit. Ranges such as "1-5%" agree where the mean lies within them, rounded to whole percent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reluscope.scorecard.results import EPOCHS, MissingError, Numbers, Reading, RunResult, is_papers_data

NAMES = {
    "resnet": "ResNet-20",
    "convnet": "ConvNet-20",
    "toynet": "ToyNet-20",
    "pyramidnet": "PyramidNet-20",
    "fixup_resnet": "FixUp ResNet-20",
}
ACTIVATIONS = {"relu": "ReLU", "prelu": "PReLU", "leaky_relu": "LeakyReLU"}
WIDTHS = {
    "resnet": [16, 32, 64],
    "convnet": [16, 32, 64],
    "toynet": [32, 32, 32],
    "fixup_resnet": [16, 32, 64],
    "pyramidnet": [],
}
DEPTH = 20

Agrees = Callable[..., bool]
"""Whether the means over the seeds agree: takes one array of shape [number] for each setting."""

ABOUT_SHARE = 0.05
"""How far a share may lie from one that the paper gives as "about"."""


@dataclass(frozen=True)
class Setting:
    """Runs of one network of depth 20 and one method, over all seeds.

    Attributes:
        family, schedule, activation: of its network and method.
        paper_data: only 50,000 training images, CIFAR-10's or a folder's, and the paper's widths: the claim is an
            absolute number.
        paper_epochs: only the paper's number of epochs: the number hangs on how long the training is.
    """

    family: str
    schedule: str = "stepwise"
    activation: str = "relu"
    paper_data: bool = False
    paper_epochs: bool = False

    def matches(self, network: Mapping[str, Any], method: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Whether such a run belongs here."""
        wanted = {"name": self.family, "depth": DEPTH, "activation": self.activation}
        if any(network.get(key) != value for key, value in wanted.items()) or method["schedule"] != self.schedule:
            return False
        if self.paper_epochs and method["epochs"] != EPOCHS[self.schedule]:
            return False
        return not self.paper_data or (
            is_papers_data(data) and list(network.get("widths") or WIDTHS[self.family]) == WIDTHS[self.family]
        )

    @property
    def label(self) -> str:
        """The network, and what distinguishes the setting from stepwise with ReLU."""
        special = [] if self.activation == "relu" else [ACTIVATIONS[self.activation]]
        special += [] if self.schedule == "stepwise" else [self.schedule.replace("_", "-")]
        return " ".join([NAMES[self.family], *special])

    def __str__(self) -> str:
        words = [NAMES[self.family], self.schedule.replace("_", "-"), ACTIVATIONS[self.activation]]
        words += ["all of CIFAR-10", "the paper's widths"] if self.paper_data else []
        words += [f"{EPOCHS[self.schedule]} epochs"] if self.paper_epochs else []
        return ", ".join(words)


@dataclass(frozen=True)
class Finding:
    """What a study says to a claim.

    Attributes:
        ours: our figures, mean and standard deviation over the seeds.
        agrees: whether the means agree with the paper.
        where: runs, checkpoints and layers that it was computed from.
    """

    ours: str
    agrees: bool
    where: str


@dataclass(frozen=True, eq=False)
class Sample:
    """The numbers of one setting: `values`, shape [seed, number], and the readings that they come from."""

    setting: Setting
    values: Numbers
    readings: Sequence[Reading]


def mean(values: Numbers) -> Numbers:
    """Over the seeds: [seed, number] -> [number]."""
    return values.mean(axis=0)


@dataclass(frozen=True)
class Claim:
    """One line of the scorecard.

    Attributes:
        number: of the claim, with a letter where it has several parts: "7b".
        name: for programs.
        statement: what the paper says, short, and how it is measured where the paper does not say.
        paper: the paper's figure, as text.
        settings: the runs that it looks at; each must be in the study.
        measures: that it needs of those runs.
        layers: that it looks at, as text.
        value: one or a few numbers of one run.
        agrees: takes `over_seeds` of each setting, in order: an array of shape [number].
        show: one number as text.
        parts: what the numbers are called, where `value` gives several.
        over_seeds: what is made of all seeds' numbers: [seed, any] -> [number]. Claims are judged by the mean.
    """

    number: str
    name: str
    statement: str
    paper: str
    settings: tuple[Setting, ...]
    measures: tuple[str, ...]
    layers: str
    value: Callable[[Reading], ArrayLike]
    agrees: Agrees
    show: Callable[[float], str]
    parts: tuple[str, ...] = ()
    over_seeds: Callable[[Numbers], Numbers] = mean

    def wants(self, network: Mapping[str, Any], method: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Whether the claim looks at such a run."""
        return any(setting.matches(network, method, data) for setting in self.settings)

    def evaluate(self, results: Sequence[RunResult]) -> Finding:
        """Hold the claim against a study.

        Each seed is evaluated by itself; runs that lack a checkpoint are left out where another seed has it. The
        finding shows mean ± standard deviation over the seeds, and agrees where the means agree. Data sets are never
        mixed: CIFAR-10 comes first, then the others in the order of `results`. Of several trainings that fit one
        setting (other numbers of epochs, say) the longest counts.

        Raises:
            MissingError: the study lacks a run, a measure or a checkpoint.
        """
        wanted = [run for run in results if self.wants(run.network, run.method, run.data)]
        reasons = []
        for runs in sorted(_groups(wanted, lambda run: run.data), key=lambda runs: runs[0].data["name"] != "cifar10"):
            try:
                return self._finding([self._sample(setting, runs) for setting in self.settings])
            except MissingError as error:
                reasons.append(str(error))
        raise MissingError(reasons[0] if reasons else f"no run: {self.settings[0]}")

    def _sample(self, setting: Setting, runs: Sequence[RunResult]) -> Sample:
        """The setting's runs, of those on one data set."""
        fitting = [run for run in runs if setting.matches(run.network, run.method, run.data)]
        if not fitting:
            raise MissingError(f"no run: {setting}")
        reasons = []
        groups = _groups(fitting, lambda run: [run.network, run.method])
        for seeds in sorted(groups, key=lambda runs: -runs[0].num_steps):
            readings, values = [], []
            for run in seeds:
                reading = Reading(run)
                try:
                    numbers = np.atleast_1d(np.asarray(self.value(reading), np.float64))
                    if np.isnan(numbers).any():  # as where pre-activations were NaN: it neither agrees nor differs
                        raise MissingError(f"{run.name}: {', '.join(self.measures)}: NaN where the claim looks")
                    values.append(numbers)
                    readings.append(reading)
                except MissingError as error:
                    reasons.append(str(error))
            if values:
                return Sample(setting, np.stack(values), readings)
        raise MissingError(reasons[0])

    def _finding(self, samples: Sequence[Sample]) -> Finding:
        judged = [self.over_seeds(sample.values) for sample in samples]
        where = f"{_where(samples)}; layers: {self.layers}"
        return Finding(self._ours(samples, judged), bool(self.agrees(*judged)), where)

    def _ours(self, samples: Sequence[Sample], judged: Sequence[Numbers]) -> str:
        return "; ".join(
            (f"{sample.setting.label}: " if len(samples) > 1 else "") + self._numbers(sample, numbers)
            for sample, numbers in zip(samples, judged, strict=True)
        )

    def _numbers(self, sample: Sample, numbers: Numbers) -> str:
        texts = [self.show(number) for number in numbers]
        if len(sample.values) > 1 and self.over_seeds is mean:
            spread = sample.values.std(axis=0, ddof=1)
            texts = [f"{text} ± {self.show(deviation)}" for text, deviation in zip(texts, spread, strict=True)]
        parts = self.parts or [""] * len(texts)
        return ", ".join(f"{part} {text}".strip() for part, text in zip(parts, texts, strict=True))


def _groups(runs: Iterable[RunResult], key: Callable[[RunResult], Any]) -> list[list[RunResult]]:
    """Runs with equal keys together, in the order of their first."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(json.dumps(key(run), sort_keys=True), []).append(run)
    return list(groups.values())


def _where(samples: Sequence[Sample]) -> str:
    """Runs of all settings and the checkpoints that were looked at; settings alike in these stand together."""
    names: dict[str, list[str]] = {}
    for sample in samples:
        run = sample.readings[0].run
        names.setdefault(_circumstances(sample.readings), []).append(run.name.removesuffix(f"-seed{run.seed}"))
    return "; ".join(f"{', '.join(runs)} ({text})" for text, runs in names.items())


def _circumstances(readings: Sequence[Reading]) -> str:
    """Data, epochs, seeds and checkpoints of the runs of one setting."""
    run = readings[0].run
    seeds = [str(reading.run.seed) for reading in readings]
    steps = sorted(set().union(*(reading.steps for reading in readings)))
    parts = [
        f"{run.data['name']}, {run.method['epochs']} epochs",
        f"{len(seeds)} seeds" if len(seeds) > 4 else f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}",
        f"{len(steps)} checkpoints from step {steps[0]} to {steps[-1]}"
        if len(steps) > 4
        else f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps or [run.num_steps]))}",
    ]
    return "; ".join(parts)


# When the means of the settings agree: each takes one array of shape [number] a setting, and looks at the first number.


def within(least: float, most: float) -> Agrees:
    """Every setting's lies from `least` to `most`."""
    return lambda *means: all(least <= value[0] <= most for value in means)


def at_most(most: float) -> Agrees:
    """Every setting's is `most` or less."""
    return within(-np.inf, most)


def above(limit: float) -> Agrees:
    """Every setting's is more than `limit`."""
    return lambda *means: all(value[0] > limit for value in means)


def below(limit: float) -> Agrees:
    """Every setting's is less than `limit`."""
    return lambda *means: all(value[0] < limit for value in means)


def about(share: float) -> Agrees:
    """Every setting's lies within 5 percentage points of `share`."""
    return within(share - ABOUT_SHARE - 1e-9, share + ABOUT_SHARE + 1e-9)  # 0.30 - 0.25 exceeds 0.05 by rounding


def whole_percent(least: int, most: int) -> Agrees:
    """Every setting's lies from `least` to `most` percent, rounded to whole percent."""
    return lambda *means: all(least <= round(100 * value[0]) <= most for value in means)


def about_tenth(tenth: float) -> Agrees:
    """Every setting's rounds to `tenth`."""
    return lambda *means: all(round(value[0], 1) == tenth for value in means)


def first_is_smallest(first: Numbers, *others: Numbers) -> bool:
    """The first setting's is smaller than every other's."""
    return all(first[0] < other[0] for other in others)


def first_is_largest(first: Numbers, *others: Numbers) -> bool:
    """The first setting's is larger than every other's."""
    return all(first[0] > other[0] for other in others)


# How numbers are shown.


def percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def millions(count: float) -> str:
    return f"{count / 1e6:.3g} million"


def plain(value: float) -> str:
    return f"{value:.3g}"
