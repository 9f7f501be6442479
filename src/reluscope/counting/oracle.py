"""The NumPy engine: slow and obvious. The other engines are tested against it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import channel_words, key_dtype


class NumpyCounter:
    """Keeps the key of every position, and counts them at the end."""

    settles_in_threads = False

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        self._dtype = key_dtype(num_channels)
        self._words = channel_words(num_channels)
        self._keys: list[NDArray[np.uint64]] = []

    def add(self, preactivation: Tensor) -> None:
        values = preactivation.detach().cpu().double().numpy()  # double holds every float dtype, NumPy not every one
        bits = np.moveaxis(values, 1, -1).reshape(-1, len(self._words)) > 0  # [positions, channels]
        self._keys.append(np.bitwise_xor.reduce(np.where(bits, self._words, np.uint64(0)), axis=1))

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        keys, counts = np.unique(np.concatenate(self._keys), return_counts=True)
        return keys.astype(self._dtype), counts.astype(np.int64)
