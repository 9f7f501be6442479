"""Step and epoch arithmetic, and which steps are dumped and counted.  The only place that does it.

A step is an optimizer update done; 0 is the initialisation.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reluscope.hints import did_you_mean

Steps = NDArray[np.int64]

_LARGEST = 1 << 62  # no step is higher, so that arithmetic with steps stays within 64 bits

MOST_TRAINED = 10_000_000
"""Steps of a training: tables with a row for each are a matter of seconds and megabytes."""

MOST_LOGARITHMIC = 10_000
"""Checkpoints for each factor of ten."""

MOST_CHECKPOINTS = 1_000_000
"""Steps of a training that are dumped."""

SELECTIONS = ("every", "per_epoch", "list", "logarithmic", "shares")


@dataclass(frozen=True)
class Timeline:
    """How long one training is.

    Attributes:
        num_images: training images; each is seen once an epoch.
        batch_size: images a step; the last step of an epoch takes what is left.
        epochs: passes over the training images.
    """

    num_images: int
    batch_size: int
    epochs: int
    first_step: ClassVar[int] = 0

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_images // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Optimizer updates of the whole training; also the last step."""
        return self.epochs * self.steps_per_epoch

    def epoch_of(self, steps: Steps) -> NDArray[np.float64]:
        """Steps in epochs, with fractions.  float64, same shape."""
        return np.asarray(steps, np.float64) / self.steps_per_epoch

    def require_feasible(self, every: int = 1) -> None:
        """Refuse a training of more steps than can be handled, or that dumps more than can be handled.

        Raises:
            ValueError: it does; one line that names the key.
        """
        if self.num_steps > MOST_TRAINED:
            raise ValueError(
                f"epochs: {self.epochs:,} of {self.steps_per_epoch:,} steps each make {self.num_steps:,}, expected at "
                f"most {MOST_TRAINED:,}; lower epochs, or raise batch_size"
            )
        if self.num_steps // every > MOST_CHECKPOINTS:
            raise ValueError(
                f"checkpoints.every: {every} dumps {self.num_steps // every:,} steps, expected at most "
                f"{MOST_CHECKPOINTS:,}; dump fewer"
            )

    def dumped(self, every: int = 1) -> Steps:
        """The steps whose weights are dumped: every `every`-th, the first and the last."""
        if every < 1:
            raise ValueError(f"checkpoints.every: expected at least 1, got {every}")
        return with_ends([np.arange(0, self.num_steps + 1, every)], self)

    @property
    def epoch_ends(self) -> Steps:
        """The last step of each epoch."""
        return np.arange(1, self.epochs + 1) * self.steps_per_epoch


@dataclass(frozen=True)
class SavedSteps:
    """The steps of a training that ran elsewhere: those whose checkpoints there are.

    Attributes:
        steps: ascending, at least one.
        steps_per_epoch: None where it is not known, and then epochs are not known either.
    """

    steps: tuple[int, ...]
    steps_per_epoch: int | None = None

    @property
    def first_step(self) -> int:
        return self.steps[0]

    @property
    def num_steps(self) -> int:
        """The last step."""
        return self.steps[-1]

    def epoch_of(self, steps: Steps) -> NDArray[np.float64]:
        """Steps in epochs, with fractions; NaN where that is not known.  float64, same shape."""
        return np.asarray(steps, np.float64) / (self.steps_per_epoch or np.nan)

    def dumped(self, every: int = 1) -> Steps:
        """All of the steps."""
        return np.array(self.steps, np.int64)


def select_steps(
    selections: Mapping[str, object] | Sequence[Mapping[str, object]],
    timeline: Timeline | SavedSteps,
    dump_every: int = 1,
) -> Steps:
    """The union of the selections.

    A selection is one of ``{every: k}``, ``{per_epoch: m}`` (m checkpoints an epoch, evenly), ``{list: [steps]}``,
    ``{logarithmic: m}`` (m checkpoints per factor of ten) and ``{shares: [fractions of the training]}``. All but lists
    and shares end with the last step, or take ``until: step``. Listed steps and those of ``every`` must have been
    dumped; shares take the dumped step at or before, the others the nearest one.

    Returns:
        Ascending steps, int64, shape [checkpoint]; not to be written to.

    Raises:
        ValueError: an unknown selection, none, a step beyond the end, or one that was not dumped.
    """
    several = [selections] if isinstance(selections, Mapping) else list(selections)
    if not several:
        raise ValueError("steps: expected at least one selection, got none")
    return _selected(json.dumps(several), timeline, dump_every)


@functools.cache  # studies ask the same for each of hundreds of runs
def _selected(selections: str, timeline: Timeline | SavedSteps, dump_every: int) -> Steps:
    dumped = timeline.dumped(dump_every)
    steps = np.unique(np.concatenate([_select(one, timeline, dumped) for one in json.loads(selections)]))
    steps.flags.writeable = False
    return steps


def with_ends(steps: Sequence[Steps], timeline: Timeline | SavedSteps) -> Steps:
    """The union of all steps, the first and the last one there is; ascending, int64."""
    return np.unique(np.concatenate([*steps, [timeline.first_step, timeline.num_steps]])).astype(np.int64)


def _select(selection: dict[str, object], timeline: Timeline | SavedSteps, dumped: Steps) -> Steps:
    has_until = "until" in selection
    until = _integer("steps.until", selection.pop("until", timeline.num_steps), least=0)
    if until > timeline.num_steps:
        raise ValueError(f"steps.until: step {until} is beyond the last step, {timeline.num_steps}")
    for key in selection:
        if key not in SELECTIONS:
            raise ValueError(f"steps: unknown key {key!r}{did_you_mean(key, [*SELECTIONS, 'until'])}")
    if len(selection) != 1:
        given = " and ".join(selection) or "none"
        raise ValueError(f"steps: expected exactly one of {', '.join(SELECTIONS)}, got {given}")
    ((kind, value),) = selection.items()
    if kind in ("list", "shares") and has_until:
        raise ValueError(f"steps: until does not go with {kind}")
    if kind == "list":
        return _listed(value, timeline, dumped)
    if kind == "shares":
        wanted = np.floor(_shares(value) * timeline.num_steps + 1e-9)  # before a drop there, never after
        return dumped[np.maximum(np.searchsorted(dumped, wanted, side="right") - 1, 0)]
    most = MOST_LOGARITHMIC if kind == "logarithmic" else _LARGEST
    number = _integer(f"steps.{kind}", value, least=1, most=most)
    if kind == "every" and isinstance(timeline, SavedSteps):
        chosen = dumped[(dumped % number == 0) & (dumped <= until)]
    elif kind == "every":
        chosen = _must_be_there(np.arange(0, until + 1, number), timeline, dumped)
    else:
        if kind == "per_epoch":
            if timeline.steps_per_epoch is None:
                raise ValueError("steps.per_epoch: the epochs of these files are not known; give steps_per_epoch")
            epochs = -(-timeline.num_steps // timeline.steps_per_epoch)
            number = min(number, timeline.steps_per_epoch)  # more would be every step, too
            if epochs * number > MOST_TRAINED:
                raise ValueError(
                    f"steps.per_epoch: {number} of each of {epochs:,} epochs are too many to look at; expected at most "
                    f"{MOST_TRAINED:,} together"
                )
            wanted = np.arange(0, epochs * number + 1) * timeline.steps_per_epoch / number
        else:
            decades = np.log10(max(timeline.num_steps, 1))
            wanted = np.append(0, 10 ** np.arange(0, decades + 1 / number, 1 / number))
        chosen = _nearest(np.round(wanted[wanted <= until]).astype(np.int64), dumped)
        chosen = chosen[chosen <= until]
    return np.append(chosen, timeline.num_steps) if until == timeline.num_steps else chosen


def _shares(value: object) -> NDArray[np.float64]:
    ok = isinstance(value, Sequence) and all(isinstance(v, int | float) and 0 <= v <= 1 for v in value)
    if not ok:
        raise ValueError(f"steps.shares: expected a list of fractions of the training, 0 to 1, got {value!r}")
    return np.array(value, np.float64)


def _listed(value: object, timeline: Timeline | SavedSteps, dumped: Steps) -> Steps:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"steps.list: expected a list of steps, got {value!r}")
    steps = np.array([_integer("steps.list", s, least=0) for s in value], np.int64)
    if len(beyond := steps[steps > timeline.num_steps]):
        raise ValueError(f"steps.list: step {beyond[0]} is beyond the last step, {timeline.num_steps}")
    return _must_be_there(steps, timeline, dumped)


def _must_be_there(steps: Steps, timeline: Timeline | SavedSteps, dumped: Steps) -> Steps:
    if len(missing := np.setdiff1d(steps, dumped)):
        near = _nearest(missing[:1], dumped)[0]
        if isinstance(timeline, SavedSteps):
            raise ValueError(f"steps: there is no file for step {missing[0]}; the nearest is for step {near}")
        raise ValueError(
            f"steps: step {missing[0]} is not dumped (the nearest dumped step is {near}); "
            "choose dumped steps or lower checkpoints.every"
        )
    return steps


def _nearest(steps: Steps, dumped: Steps) -> Steps:
    right = np.clip(np.searchsorted(dumped, steps), 1, max(len(dumped) - 1, 1))
    left = dumped[right - 1]
    right = dumped[np.minimum(right, len(dumped) - 1)]
    return np.where(steps - left <= right - steps, left, right)


def _integer(key: str, value: object, least: int, most: int = _LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key}: expected a whole number of at least {least}, got {value!r}")
    if value > most:
        raise ValueError(f"{key}: expected a whole number of at most {most}, got a larger one")
    return value


def default_shard_length(timeline: Timeline | SavedSteps) -> int:
    """Steps whose checkpoints one counting job handles: a quarter of the training, but at least 1,000.

    A job takes seconds to start, so it should handle dozens of checkpoints where one an epoch is counted. Which are
    counted must not matter: a shard's range never moves. Files have a job each, so that one that is added or
    replaced is counted by itself.
    """
    if isinstance(timeline, SavedSteps):
        return 1
    return max(1_000, timeline.num_steps // 4 + 1)  # four hold the last step, too


def shard_name(step: int, length: int) -> str:
    """Name of the shard that holds `step`: the fixed range of steps, first to last, that it stands for."""
    first = step // length * length
    return f"{first:08d}-{first + length - 1:08d}"


def shards(steps: Steps, length: int) -> dict[str, list[int]]:
    """Counted steps by shard.  A shard's range never moves, so adding a step never renames a finished shard."""
    by_shard: dict[str, list[int]] = {}
    for step in steps.tolist():
        by_shard.setdefault(shard_name(step, length), []).append(step)
    return by_shard


def shard_length_for(steps: Steps, jobs: int) -> int:
    """The shortest shard, of 1, 2 or 5 times a power of ten steps, that makes at most so many of these steps."""
    length = 1
    for times in itertools.cycle((2, 2.5, 2)):
        if len(np.unique(np.asarray(steps) // length)) <= jobs:
            return length
        length = int(length * times)
    raise AssertionError("a cycle does not end")
