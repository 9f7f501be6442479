"""Step and epoch arithmetic, and which steps are dumped and counted.  The only place that does it.

A step is an optimizer update done; 0 is the initialisation.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]

SELECTIONS = ("every", "per_epoch", "list", "logarithmic")


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

    def dumped(self, every: int = 1) -> Steps:
        """The steps whose weights are dumped: every `every`-th, the first and the last."""
        if every < 1:
            raise ValueError(f"checkpoints.every: expected at least 1, got {every}")
        return _with_ends(np.arange(0, self.num_steps + 1, every), self.num_steps)

    def evaluated(self, dumped: Steps) -> Steps:
        """The last dumped step of each epoch, where the test accuracy is taken; step 0 is not evaluated."""
        dumped = dumped[dumped > 0]
        epoch = (dumped - 1) // self.steps_per_epoch
        return dumped[np.append(epoch[1:] != epoch[:-1], True)]


def select_steps(
    selections: Mapping[str, object] | Sequence[Mapping[str, object]], timeline: Timeline, dumped: Steps
) -> Steps:
    """The steps to count: the union of the selections, the first and the last step.

    A selection is one of ``{every: k}``, ``{per_epoch: m}`` (m checkpoints an epoch, evenly), ``{list: [steps]}`` and
    ``{logarithmic: m}`` (m checkpoints per factor of ten); each but the list may add ``until: step``. Listed steps
    and those of ``every`` must have been dumped; ``per_epoch`` and ``logarithmic`` take the nearest dumped step.

    Returns:
        Ascending steps, int64, shape [checkpoint].

    Raises:
        ValueError: an unknown selection, a step beyond the end, or one that was not dumped.
    """
    chosen = [
        _select(dict(s), timeline, dumped) for s in ([selections] if isinstance(selections, Mapping) else selections)
    ]
    return _with_ends(np.concatenate([*chosen, np.zeros(0, np.int64)]), timeline.num_steps)


def _select(selection: dict[str, object], timeline: Timeline, dumped: Steps) -> Steps:
    until = _integer("counting.steps.until", selection.pop("until", timeline.num_steps), least=0)
    if until > timeline.num_steps:
        raise ValueError(f"counting.steps.until: step {until} is beyond the last step, {timeline.num_steps}")
    if len(selection) != 1 or next(iter(selection)) not in SELECTIONS:
        near = [n for key in selection for n in difflib.get_close_matches(key, SELECTIONS, 1)]
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"counting.steps: expected one of {', '.join(SELECTIONS)}, got {', '.join(selection) or 'none'}{hint}"
        )
    ((kind, value),) = selection.items()
    if kind == "list":
        return _listed(value, timeline, dumped)
    number = _integer(f"counting.steps.{kind}", value, least=1)
    if kind == "every":
        return _must_be_dumped(np.arange(0, until + 1, number), dumped)
    if kind == "per_epoch":
        wanted = np.arange(0, timeline.epochs * number + 1) * timeline.steps_per_epoch / number
    else:
        decades = np.log10(max(timeline.num_steps, 1))
        wanted = np.append(0, 10 ** np.arange(0, decades + 1 / number, 1 / number))
    return _nearest(np.round(wanted[wanted <= until]).astype(np.int64), dumped)


def _listed(value: object, timeline: Timeline, dumped: Steps) -> Steps:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"counting.steps.list: expected a list of steps, got {value!r}")
    steps = np.array([_integer("counting.steps.list", s, least=0) for s in value], np.int64)
    if len(beyond := steps[steps > timeline.num_steps]):
        raise ValueError(f"counting.steps.list: step {beyond[0]} is beyond the last step, {timeline.num_steps}")
    return _must_be_dumped(steps, dumped)


def _must_be_dumped(steps: Steps, dumped: Steps) -> Steps:
    if len(missing := np.setdiff1d(steps, dumped)):
        near = _nearest(missing[:1], dumped)[0]
        raise ValueError(
            f"counting.steps: step {missing[0]} is not dumped (the nearest dumped step is {near}); "
            "choose dumped steps or lower checkpoints.every"
        )
    return steps


def _nearest(steps: Steps, dumped: Steps) -> Steps:
    right = np.clip(np.searchsorted(dumped, steps), 1, max(len(dumped) - 1, 1))
    left = dumped[right - 1]
    right = dumped[np.minimum(right, len(dumped) - 1)]
    return np.where(steps - left <= right - steps, left, right)


def _with_ends(steps: Steps, last: int) -> Steps:
    return np.unique(np.concatenate([steps, [0, last]])).astype(np.int64)


def _integer(key: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key}: expected a whole number of at least {least}, got {value!r}")
    return value


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
