"""What a counting engine is, and which there are."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.hints import require_known
from reluscope.patterns import ClassCounts


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

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        """Takes one batch [n, channels, height, width] or [n, channels]; done with the tensor when it returns.

        A bit is 1 where a value is > 0; any float dtype, or uint8.

        Args:
            labels: the images' classes, one row a labelling; with every batch, or with none. Shape [labelling, images].
                Each image has as many positions, which follow each other.
        """

    @property
    def num_nan(self) -> int:
        """How many of the values that were added are NaN.  A GPU may be waited for: to be asked at the end."""

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """The distinct keys, strictly ascending, of dtype `key_dtype(num_channels)`, and their counts.

        Called once, after the last batch without labels: the counter may give its memory away.
        """

    def result_by_class(self, num_classes: int) -> tuple[NDArray[np.unsignedinteger], ClassCounts]:
        """The distinct keys, as `result`, and how often each occurs in each class of the first labelling.

        Called once, after the last batch with labels.
        """

    def pair_counts(self, labelling: int) -> NDArray[Any]:
        """How often each pattern occurs in each class of a labelling where it does, in any order.  Shape [pair]."""


ENGINES = {
    "numpy": "oracle:NumpyCounter",
    "numba": "compiled:NumbaCounter",
    "torch": "device:TorchCounter",
    "triton": "triton_kernels:TritonCounter",
    "hash": "hash_kernels:HashCounter",
}
"""Where the counter of each engine lives in this package; imported when it is used."""


def counter_type(engine: str, device: torch.device) -> type[Counter]:
    """The counter of an engine by name; "auto" is the fastest for the network's device.

    That is numba on the CPU, also for Apple's GPUs, whose memory is the CPU's; Triton on an NVIDIA or AMD GPU where it
    is installed and passes a small trial; and torch elsewhere. The hash table is for who asks for it: on an H100,
    100 million keys were sorted and counted in 3 (32 bits) or 7 ms (64 bits), and hashed in 14 to 117 ms, however often
    each occurred; up to 16 channels Triton's direct table needs neither.

    Raises:
        ValueError: unknown engine, or one that is not installed.
    """
    require_known("engine", engine, ["auto", *ENGINES])
    has_triton = importlib.util.find_spec("triton") is not None
    if engine == "auto":
        engine = {"cpu": "numba", "mps": "numba"}.get(device.type, "torch")
        if device.type == "cuda" and has_triton and _passes_trial("triton", device):
            engine = "triton"
    if engine == "triton" and not has_triton:
        raise ValueError("engine: expected triton to be installed for 'triton', but it is not; 'torch' works without")
    return _load(engine)


def _load(engine: str) -> type[Counter]:
    module, name = ENGINES[engine].split(":")
    counter: type[Counter] = getattr(importlib.import_module(f"reluscope.counting.{module}"), name)
    return counter


@functools.cache
def _passes_trial(engine: str, device: torch.device) -> bool:
    """Whether an engine runs on the device and counts as torch does: Triton compiles at its first use, for which a
    machine may lack a C compiler, or Triton the machine.
    """
    try:
        for num_channels in (16, 20, 40, 70):
            values = torch.randn(9, num_channels, 5, 7, generator=torch.Generator().manual_seed(0)).to(device)
            counts = []
            for name in (engine, "torch"):
                buffers = KeyBuffers(1)
                counter = _load(name)(num_channels, device, buffers)
                counter.add(values)
                buffers.end_batch()
                counts.append(counter.result())
            if not all(np.array_equal(*arrays) for arrays in zip(*counts, strict=True)):
                raise RuntimeError("it counts otherwise than torch does")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(f"engine {engine!r} does not work on {device}, 'torch' counts instead: {reason}", stacklevel=3)
        return False
    return True
