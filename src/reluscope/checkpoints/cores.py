"""Which cores a training leaves to what is written beside it."""

from __future__ import annotations

import os

import torch
from torch import nn

GPU_THREADS = 8
"""Threads, at most, that compress beside a training on a GPU, which fills blocks several times as fast as one of them
compresses: 5 ms a step of ResNet-20."""


def has_spare_core(network: nn.Module) -> bool:
    """Whether the training leaves a core to others."""
    return _is_elsewhere(network) or torch.get_num_threads() < _cores()


def compressing_threads(network: nn.Module) -> int:
    """As many as the training has on the CPU; no bit depends on it."""
    return min(_cores(), GPU_THREADS) if _is_elsewhere(network) else torch.get_num_threads()


def _is_elsewhere(network: nn.Module) -> bool:
    return any(parameter.device.type != "cpu" for parameter in network.parameters())


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
