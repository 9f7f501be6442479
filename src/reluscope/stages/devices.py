"""Which device and how many threads a job uses."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """The first NVIDIA GPU this process may use, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(threads: int) -> None:
    """Let torch use so many processor threads."""
    torch.set_num_threads(threads)
