"""From the CPU to the device of the network."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; nobody waits for a copy from the CPU to an NVIDIA GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until it has been read
    return tensor.to(device)
