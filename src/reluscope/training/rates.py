"""Learning rate and momentum of every update, as tables: a resumed training needs no scheduler state.

They are those of torch's schedulers, to the bit, but made without them: a scheduler wants an optimizer of torch's, and
making one imports torch's compiler, which takes seconds of every training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reluscope.training.methods import Cyclic, Method, OneCycle, Stepwise

_AtUpdate = Callable[[int], tuple[float, float]]
"""Learning rate and momentum of an update, which are counted from 0."""


@dataclass(frozen=True)
class Rates:
    """Row s - 1 belongs to the update that makes step s; float64, shape [num_steps]."""

    learning_rate: NDArray[np.float64]
    momentum: NDArray[np.float64]


def rates(method: Method, num_steps: int) -> Rates:
    """What the method's schedule sets at each update of a whole training of `num_steps` updates."""
    at_update = _schedule(method, num_steps)
    table = np.array([at_update(update) for update in range(num_steps)], np.float64)
    return Rates(*table.reshape(-1, 2).T)


def _schedule(method: Method, num_steps: int) -> _AtUpdate:
    if isinstance(method, Stepwise):
        return _stepwise(method, num_steps)
    if isinstance(method, Cyclic):
        return _cyclic(method, num_steps)
    if isinstance(method, OneCycle):
        return _one_cycle(method, max(num_steps, 2))
    raise TypeError(f"method: expected Stepwise, Cyclic or OneCycle, got {type(method).__name__}")


def _stepwise(method: Stepwise, num_steps: int) -> _AtUpdate:
    """`MultiStepLR`; to be asked in order, because each drop multiplies what was before."""
    milestones = Counter(round(fraction * num_steps) for fraction in method.milestones)
    rate = method.learning_rate

    def at_update(update: int) -> tuple[float, float]:
        nonlocal rate
        if update in milestones:
            rate = rate * method.decay ** milestones[update]
        return rate, method.momentum

    return at_update


def _cyclic(method: Cyclic, num_steps: int) -> _AtUpdate:
    """`CyclicLR` in mode triangular2: up and down again, the amplitude halved with each cycle; momentum against it."""
    length = 2 * (num_steps / (2 * method.cycles))

    def at_update(update: int) -> tuple[float, float]:
        cycle = math.floor(1 + update / length)
        place = 1.0 + update / length - cycle
        height = place / 0.5 if place <= 0.5 else (place - 1) / (0.5 - 1)
        amplitude = 1 / (2.0 ** (cycle - 1))
        rate = method.min_learning_rate + (method.learning_rate - method.min_learning_rate) * height * amplitude
        return rate, method.momentum - (method.momentum - method.min_momentum) * height * amplitude

    return at_update


def _one_cycle(method: OneCycle, num_steps: int) -> _AtUpdate:
    """`OneCycleLR`: up to the peak along a cosine, then down to the end along another; momentum against it."""
    peak = float(_warmup(method.warmup, num_steps) * num_steps) - 1
    first_rate = method.learning_rate / method.div_factor
    last_rate = first_rate / method.final_div_factor

    def at_update(update: int) -> tuple[float, float]:
        if update <= peak:
            share = update / peak
            rate = _along_cosine(first_rate, method.learning_rate, share)
            return rate, _along_cosine(method.momentum, method.min_momentum, share)
        share = (update - peak) / (num_steps - 1 - peak)
        rate = _along_cosine(method.learning_rate, last_rate, share)
        return rate, _along_cosine(method.min_momentum, method.momentum, share)

    return at_update


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def _warmup(share: float, num_steps: int) -> float:
    """The warm-up's share of the training, such that neither it nor the rest is without length, which would divide by
    zero: the peak falls on step share * num_steps - 1, as torch has it."""
    return min(max(share, 1.5 / num_steps), 1.0 - 0.5 / num_steps)
