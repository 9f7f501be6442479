"""The numba engine: fast on the CPU, on one thread.

Loops are written so that LLVM vectorises them: a plain reduction over channels where these lie together in memory, and
an outer loop over channels with the keys of a block in the first-level cache where positions do. No prange: torch's own
threads spin between its operators and would fight numba's.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.sorted_counts import BUFFER_KEYS, SortedCounts
from reluscope.patterns import channel_words, key_dtype

Keys = NDArray[np.unsignedinteger]
Run = tuple[Keys, NDArray[np.int64]]

_BLOCK = 1024  # positions: 8 KiB of 64-bit keys, a sixth of a usual first-level cache


class NumbaCounter:
    """Up to 16 channels a table of all 65,536 patterns; above, `SortedCounts`."""

    def __init__(self, num_channels: int, buffer_keys: int = BUFFER_KEYS) -> None:
        dtype = key_dtype(num_channels)
        self._words = channel_words(num_channels).astype(dtype)
        self._keys: _Table | SortedCounts[Keys] = (
            _Table() if dtype == np.uint16 else SortedCounts(_count, _merge, buffer_keys)
        )

    def add(self, preactivation: Tensor) -> None:
        self._keys.add(pack(preactivation, self._words))

    def result(self) -> Run:
        return self._keys.result()


class _Table:
    """Counts of all 16-bit keys, 512 KiB."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << 16, np.int64)

    def add(self, keys: Keys) -> None:
        _tally(keys, self._counts)

    def result(self) -> Run:
        keys = np.flatnonzero(self._counts)
        return keys.astype(np.uint16), self._counts[keys]


def pack(preactivation: Tensor, words: Keys) -> Keys:
    """The key of every position: the XOR of the words of its active channels. Positions are in memory order.

    Args:
        preactivation: [n, channels, height, width] in either memory format, or [n, channels]; any float dtype.
        words: one a channel, of the dtype of the keys. Shape [channels].
    """
    values = preactivation.detach().cpu()
    if values.dtype != torch.float32:
        values = (values > 0).view(torch.uint8)  # one more compiled variant serves all other dtypes, and exactly
    num_channels = len(words)
    keys = np.empty(values.numel() // num_channels, words.dtype)
    if values.ndim == 2:
        _pack_rows(np.ascontiguousarray(values.numpy()), words, keys)
    elif values.is_contiguous(memory_format=torch.channels_last):
        rows = values.permute(0, 2, 3, 1).reshape(-1, num_channels)
        _pack_rows(np.ascontiguousarray(rows.numpy()), words, keys)
    else:
        _pack_planes(np.ascontiguousarray(values.flatten(2).numpy()), words, keys)
    return keys


@njit(nogil=True, cache=True)
def _pack_rows(values, words, keys):  # type: ignore[no-untyped-def]
    """Values [positions, channels]."""
    zero = words.dtype.type(0)
    for position in range(values.shape[0]):
        key = zero
        for channel in range(values.shape[1]):
            key ^= words[channel] if values[position, channel] > 0 else zero
        keys[position] = key


@njit(nogil=True, cache=True)
def _pack_planes(values, words, keys):  # type: ignore[no-untyped-def]
    """Values [n, channels, height * width]."""
    num_images, num_channels, num_positions = values.shape
    zero = words.dtype.type(0)
    for image in range(num_images):
        for start in range(0, num_positions, _BLOCK):
            stop = min(start + _BLOCK, num_positions)
            block = keys[image * num_positions + start : image * num_positions + stop]
            block[:] = zero
            for channel in range(num_channels):
                word, plane = words[channel], values[image, channel, start:stop]
                for position in range(len(block)):
                    block[position] ^= word if plane[position] > 0 else zero


@njit(nogil=True, cache=True)
def _tally(keys, counts):  # type: ignore[no-untyped-def]
    for key in keys:
        counts[key] += 1


def _count(pieces: list[Keys]) -> Run:
    keys = np.concatenate(pieces)
    keys.sort()
    return _run_lengths(keys)


@njit(nogil=True, cache=True)
def _run_lengths(keys):  # type: ignore[no-untyped-def]
    """The distinct keys of a sorted array, and how often each occurs."""
    num_distinct = 1
    for i in range(1, len(keys)):
        num_distinct += keys[i] != keys[i - 1]
    distinct = np.empty(num_distinct, keys.dtype)
    counts = np.zeros(num_distinct, np.int64)
    last = 0
    for i in range(len(keys)):
        last += i > 0 and keys[i] != keys[i - 1]
        distinct[last] = keys[i]
        counts[last] += 1
    return distinct, counts


def _merge(first: Run, second: Run) -> Run:
    keys = np.empty(len(first[0]) + len(second[0]), first[0].dtype)
    counts = np.empty(len(keys), np.int64)
    num_distinct = _merge_into(keys, counts, *first, *second)
    keys.resize(num_distinct, refcheck=False)  # gives the slack back without a copy
    counts.resize(num_distinct, refcheck=False)
    return keys, counts


@njit(nogil=True, cache=True)
def _merge_into(keys, counts, keys_a, counts_a, keys_b, counts_b):  # type: ignore[no-untyped-def]
    """Merges two runs without branching on the keys: no processor can predict which of two random ones is smaller."""
    a = b = num_distinct = 0
    while a < len(keys_a) and b < len(keys_b):
        key_a, key_b = keys_a[a], keys_b[b]
        take_a, take_b = key_a <= key_b, key_b <= key_a
        keys[num_distinct] = key_a if take_a else key_b
        counts[num_distinct] = (counts_a[a] if take_a else 0) + (counts_b[b] if take_b else 0)
        a += take_a
        b += take_b
        num_distinct += 1
    for rest_keys, rest_counts in ((keys_a[a:], counts_a[a:]), (keys_b[b:], counts_b[b:])):
        keys[num_distinct : num_distinct + len(rest_keys)] = rest_keys
        counts[num_distinct : num_distinct + len(rest_keys)] = rest_counts
        num_distinct += len(rest_keys)
    return num_distinct
