"""Learning rate and momentum of every update, as tables: a resumed training needs no scheduler state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import lr_scheduler

from reluscope.training.methods import Cyclic, Method, OneCycle, Stepwise


@dataclass(frozen=True)
class Rates:
    """Row s - 1 belongs to the update that makes step s; float64, shape [num_steps]."""

    learning_rate: NDArray[np.float64]
    momentum: NDArray[np.float64]


def rates(method: Method, num_steps: int) -> Rates:
    """Run the method's torch scheduler over a whole training of `num_steps` updates and note what it sets."""
    optimizer = torch.optim.SGD(
        [torch.zeros(1)], lr=method.learning_rate, momentum=method.momentum, nesterov=method.nesterov
    )
    scheduler = _scheduler(method, optimizer, num_steps)
    table = np.empty((2, num_steps))
    for row in range(num_steps):
        group = optimizer.param_groups[0]
        table[:, row] = float(group["lr"]), float(group["momentum"])
        optimizer.step()
        if row + 1 < num_steps:
            scheduler.step()
    return Rates(*table)


def _scheduler(method: Method, optimizer: torch.optim.Optimizer, num_steps: int) -> Any:
    if isinstance(method, Stepwise):
        milestones = [round(fraction * num_steps) for fraction in method.milestones]
        return lr_scheduler.MultiStepLR(optimizer, milestones, gamma=method.decay)
    if isinstance(method, Cyclic):
        return lr_scheduler.CyclicLR(
            optimizer,
            base_lr=method.min_learning_rate,
            max_lr=method.learning_rate,
            step_size_up=num_steps / (2 * method.cycles),  # type: ignore[arg-type]  # fractions are fine
            mode="triangular2",
            cycle_momentum=True,
            base_momentum=method.min_momentum,
            max_momentum=method.momentum,
        )
    if isinstance(method, OneCycle):
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=method.learning_rate,
            total_steps=max(num_steps, 2),
            pct_start=_warmup(method.warmup, max(num_steps, 2)),
            anneal_strategy="cos",
            cycle_momentum=True,
            base_momentum=method.min_momentum,
            max_momentum=method.momentum,
            div_factor=method.div_factor,
            final_div_factor=method.final_div_factor,
        )
    raise TypeError(f"method: expected Stepwise, Cyclic or OneCycle, got {type(method).__name__}")


def _warmup(share: float, num_steps: int) -> float:
    """The warm-up's share of the training, such that neither it nor the rest is without length, where torch divides by
    zero: torch lets the peak fall on step share * num_steps - 1."""
    return min(max(share, 1.5 / num_steps), 1.0 - 0.5 / num_steps)
