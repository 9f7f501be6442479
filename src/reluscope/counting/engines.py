"""What a counting engine is, and which there are."""

from __future__ import annotations

import importlib
import importlib.util
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.hints import require_known


class Counter(Protocol):
    """Counts the patterns of one layer.

    Args:
        num_channels: of the layer.
        device: of its pre-activations.
        buffers: where keys may wait. Its `end_batch` is called after each batch, once all layers have added theirs.
    """

    settles_in_threads: ClassVar[bool]
    """Whether `SortedCounts.settle` of several layers may run at the same time, each on one thread."""

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None: ...

    def add(self, preactivation: Tensor) -> None:
        """Takes one batch [n, channels, height, width] or [n, channels]; done with the tensor when it returns."""

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """The distinct keys, strictly ascending, of dtype `key_dtype(num_channels)`, and their counts.

        Called once, after the last batch: the counter may give its memory away.
        """


ENGINES = {
    "numpy": "oracle:NumpyCounter",
    "numba": "compiled:NumbaCounter",
    "torch": "device:TorchCounter",
    "triton": "triton_kernels:TritonCounter",
}
"""Where the counter of each engine lives in this package; imported when it is used."""


def counter_type(engine: str, device: torch.device) -> type[Counter]:
    """The counter of an engine by name; "auto" is the fastest for the network's device.

    That is numba on the CPU, also for Apple's GPUs, whose memory is the CPU's; Triton on an NVIDIA or AMD GPU where it
    is installed; and torch elsewhere.

    Raises:
        ValueError: unknown engine, or one that is not installed.
    """
    require_known("engine", engine, ["auto", *ENGINES])
    has_triton = importlib.util.find_spec("triton") is not None
    if engine == "auto":
        on_device = {"cpu": "numba", "mps": "numba", "cuda": "triton" if has_triton else "torch"}
        engine = on_device.get(device.type, "torch")
    if engine == "triton" and not has_triton:
        raise ValueError("engine: expected triton to be installed for 'triton', but it is not; 'torch' works without")
    module, name = ENGINES[engine].split(":")
    counter: type[Counter] = getattr(importlib.import_module(f"reluscope.counting.{module}"), name)
    return counter
