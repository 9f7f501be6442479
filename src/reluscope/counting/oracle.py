"""The NumPy engine: slow and obvious. The other engines are tested against it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import ClassCounts, channel_words, class_dtype, key_dtype


class NumpyCounter:
    """Keeps the key of every position, and its class, and counts them at the end."""

    settles_in_threads = False

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        self._dtype = key_dtype(num_channels)
        self._words = channel_words(num_channels)
        self._keys: list[NDArray[np.uint64]] = []
        self._labels: list[NDArray[np.uint64]] = []  # of positions, [labelling, positions]
        self.num_nan = 0

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        values = preactivation.detach().cpu().double().numpy()  # double holds every float dtype, NumPy not every one
        self.num_nan += int(np.isnan(values).sum())
        bits = np.moveaxis(values, 1, -1).reshape(-1, len(self._words)) > 0  # [positions, channels]
        self._keys.append(np.bitwise_xor.reduce(np.where(bits, self._words, np.uint64(0)), axis=1))
        if labels is not None:
            self._labels.append(np.repeat(labels, len(bits) // labels.shape[1], axis=1).astype(np.uint64))

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        keys, counts = np.unique(np.concatenate(self._keys), return_counts=True)
        return keys.astype(self._dtype), counts.astype(np.int64)

    def result_by_class(self, num_classes: int) -> tuple[NDArray[np.unsignedinteger], ClassCounts]:
        pairs, counts = self._pairs(0)
        keys, num_classes_of = np.unique(pairs[0], return_counts=True)
        dtype = class_dtype(num_classes)
        by_class = ClassCounts(num_classes, num_classes_of.astype(dtype), pairs[1].astype(dtype), counts)
        return keys.astype(self._dtype), by_class

    def pair_counts(self, labelling: int) -> NDArray[np.int64]:
        return self._pairs(labelling)[1]

    def _pairs(self, labelling: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Each pattern's key with each class where it occurs, ascending, [2, pair]; and how often it does."""
        rows = np.stack([np.concatenate(self._keys), np.concatenate(self._labels, axis=1)[labelling]])
        return np.unique(rows, axis=1, return_counts=True)
