"""The torch engine: packs, sorts and counts with torch's operators, on whatever device the network is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.nan import count_nan
from reluscope.counting.sorted_counts import KeyBuffers, SortedCounts
from reluscope.patterns import ClassCounts, channel_words, class_dtype, key_dtype

Run = tuple[Tensor, Tensor]


class TorchCounter:
    """Sorts signed keys on the device, standing for the unsigned ones bit by bit; puts these in order at the end."""

    settles_in_threads = False

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        self._words = device_words(num_channels, device)
        self._keys = buffers.add(sorted_on_device(num_channels, device))
        self._num_channels = num_channels
        self._num_nan: Tensor | int = 0

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        self._num_nan = self._num_nan + count_nan(preactivation)
        room = self._keys.room(preactivation.numel() // self._num_channels, labels)
        room.copy_(pack(preactivation, self._words))

    @property
    def num_nan(self) -> int:
        return int(self._num_nan)

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        return unsigned(self._keys.result(), self._num_channels)

    def result_by_class(self, num_classes: int) -> tuple[NDArray[np.unsignedinteger], ClassCounts]:
        return united(self._keys.runs(), self._num_channels, num_classes)

    def pair_counts(self, labelling: int) -> NDArray[np.int64]:
        return pair_counts(self._keys.runs(labelling))


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


def device_words(num_channels: int, device: torch.device) -> Tensor:
    """`channel_words` as int64 on a device.  Shape [channels]."""
    return torch.from_numpy(channel_words(num_channels).view(np.int64)).to(device)


def sorted_on_device(num_channels: int, device: torch.device) -> SortedCounts[Tensor]:
    """Sorted counts of int32 keys up to 32 channels, of int64 keys above."""
    dtype = torch.int32 if num_channels <= 32 else torch.int64
    return SortedCounts(lambda n: torch.empty(n, dtype=dtype, device=device), _count, _merge)


def unsigned(run: Run, num_channels: int) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
    """A run in the order of unsigned keys, on the host."""
    keys, counts = run
    if num_channels >= 32:  # fewer never set the highest bit
        num_negative = int((keys < 0).sum())  # these are the largest, taken as unsigned
        keys, counts = keys.roll(-num_negative), counts.roll(-num_negative)
    dtype = key_dtype(num_channels)
    narrow, counts_there = to_host(keys.to(_SIGNED[dtype.itemsize]), counts)
    return narrow.view(dtype), counts_there


_SIGNED = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of a key."""


def to_host(*tensors: Tensor) -> list[NDArray[Any]]:
    """The tensors as arrays; from a GPU through memory that it reaches by itself, five times as fast."""
    if all(tensor.device.type != "cuda" for tensor in tensors):
        return [tensor.cpu().numpy() for tensor in tensors]
    there = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for tensor, target in zip(tensors, there, strict=True):
        target.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [target.numpy() for target in there]


def united(
    runs: Mapping[int, Run], num_channels: int, num_classes: int
) -> tuple[NDArray[np.unsignedinteger], ClassCounts]:
    """The runs of all classes as distinct keys, in the order of unsigned ones, with counts by class; on the host."""
    keys, order = torch.cat([keys for keys, _ in runs.values()]).sort(stable=True)
    labels = torch.cat([torch.full_like(counts, label) for label, (_, counts) in runs.items()])[order]
    counts = torch.cat([counts for _, counts in runs.values()])[order]
    run = torch.unique_consecutive(keys, return_counts=True)
    num_negative = int((keys < 0).sum())  # as in `unsigned`
    distinct, num_classes_of = unsigned(run, num_channels)
    index, pairs = (np.roll(tensor.cpu().numpy(), -num_negative) for tensor in (labels, counts))
    dtype = class_dtype(num_classes)
    return distinct, ClassCounts(num_classes, num_classes_of.astype(dtype), index.astype(dtype), pairs)


def pair_counts(runs: Mapping[int, Run]) -> NDArray[np.int64]:
    """The counts of all runs, on the host."""
    return torch.cat([counts for _, counts in runs.values()]).cpu().numpy()


def _count(keys: Tensor) -> Run:
    return torch.unique(keys, return_counts=True)


def _merge(first: Run, second: Run, total: int) -> Run:
    keys, order = torch.cat([first[0], second[0]]).sort()
    counts = torch.cat([first[1], second[1]])[order]
    distinct, lengths = torch.unique_consecutive(keys, return_counts=True)  # lengths are 1 or 2
    sums = counts.cumsum(0)[lengths.cumsum(0) - 1]  # up to and with each distinct key
    return distinct, sums.diff(prepend=sums.new_zeros(1))
