"""What a counting engine is, and which there are."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.compiled import NumbaCounter
from reluscope.counting.device import TorchCounter
from reluscope.counting.oracle import NumpyCounter
from reluscope.hints import require_known


class Counter(Protocol):
    """Counts the patterns of one layer of `num_channels` channels."""

    def __init__(self, num_channels: int) -> None: ...

    def add(self, preactivation: Tensor) -> None:
        """Takes one batch [n, channels, height, width] or [n, channels]; done with the tensor when it returns."""

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """The distinct keys, strictly ascending, of dtype `key_dtype(num_channels)`, and their counts.

        Called once, after the last `add`: the counter may give its memory away.
        """


COUNTERS: dict[str, type[Counter]] = {"numpy": NumpyCounter, "numba": NumbaCounter, "torch": TorchCounter}


def counter_type(engine: str, device: torch.device) -> type[Counter]:
    """The counter of an engine by name; "auto" is numba where the network's device is the CPU, and torch elsewhere.

    Raises:
        ValueError: unknown engine.
    """
    require_known("engine", engine, ["auto", *COUNTERS])
    if engine == "auto":
        engine = "numba" if device.type == "cpu" else "torch"
    return COUNTERS[engine]
