"""The torch engine: packs, sorts and counts on whatever device the network is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import BUFFER_KEYS, SortedCounts
from reluscope.patterns import channel_words, key_dtype

Run = tuple[Tensor, Tensor]


class TorchCounter:
    """Sorts int64 keys on the device, standing for the unsigned ones bit by bit; puts these in order at the end."""

    def __init__(self, num_channels: int, buffer_keys: int = BUFFER_KEYS) -> None:
        self._dtype = key_dtype(num_channels)
        self._words = torch.from_numpy(channel_words(num_channels).view(np.int64))
        self._keys: SortedCounts[Tensor] = SortedCounts(_count, _merge, buffer_keys)

    def add(self, preactivation: Tensor) -> None:
        self._words = self._words.to(preactivation.device)
        self._keys.add(pack(preactivation, self._words))

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        keys, counts = (tensor.cpu().numpy() for tensor in self._keys.result())
        num_negative = int(np.searchsorted(keys, 0))  # these have bit 63: the largest of all, taken as unsigned
        unsigned = np.roll(keys, -num_negative).view(np.uint64).astype(self._dtype)
        return unsigned, np.roll(counts, -num_negative)


def pack(preactivation: Tensor, words: Tensor) -> Tensor:
    """The key of every position, int64: the XOR of the words of its active channels, folded half by half.

    Args:
        preactivation: [n, channels, height, width] or [n, channels].
        words: one a channel, int64, on the same device. Shape [channels].
    """
    broadcast = words.view(-1, *[1] * (preactivation.ndim - 2))  # [channels] or [channels, 1, 1]
    keys = torch.where(preactivation.detach() > 0, broadcast, 0)
    while (num_channels := keys.shape[1]) > 1:
        half = (num_channels + 1) // 2
        keys[:, : num_channels - half] ^= keys[:, half:]
        keys = keys[:, :half]
    return keys.flatten()


def _count(pieces: list[Tensor]) -> Run:
    return torch.unique(torch.cat(pieces), return_counts=True)


def _merge(first: Run, second: Run) -> Run:
    keys, order = torch.cat([first[0], second[0]]).sort()
    counts = torch.cat([first[1], second[1]])[order]
    distinct, lengths = torch.unique_consecutive(keys, return_counts=True)  # lengths are 1 or 2
    sums = counts.cumsum(0)[lengths.cumsum(0) - 1]  # up to and with each distinct key
    return distinct, sums.diff(prepend=sums.new_zeros(1))
