"""How many pre-activations are NaN: no bit tells it, because a NaN is not above any threshold."""

from __future__ import annotations

import torch
from torch import Tensor


def count_nan(values: Tensor) -> Tensor | int:
    """How many of the values are NaN: on a GPU a tensor that is there, so that nobody waits for it."""
    if not values.is_floating_point():
        return 0
    # on the CPU a sum takes less time than comparing, and is NaN where a value is; infinities of both signs are it too
    if values.device.type == "cpu" and not torch.isnan(values.sum()):
        return 0
    return torch.isnan(values).sum()
