"""The Triton engine: packs and counts on an NVIDIA or AMD GPU; nothing leaves it before the counts are finished.

One family of kernels for every layout and number of channels: it reads the pre-activations once and writes keys, or
counts them in a table right away. Keys that need sorting are sorted by torch (`device`). With TRITON_INTERPRET=1 in the
environment when this module is first imported, the same kernels run on the CPU, slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.device import device_words, pair_counts, sorted_on_device, united, unsigned
from reluscope.counting.nan import count_nan
from reluscope.counting.sorted_counts import KeyBuffers, SortedCounts
from reluscope.patterns import ClassCounts

_TABLE_SIZE = tl.constexpr(1 << 16)
_NUM_TABLES = tl.constexpr(16)  # copies, so that a hot pattern does not make all programs wait for one address
_INTERPRETS = triton.knobs.runtime.interpret  # as it was when the kernels below were made
_TILES = {16: (8192, 8), 32: (4096, 4), 64: (2048, 4)}
"""By the most channels: values that a program holds at a time, and its warps. Measured on an H100."""
_HOT_ROUNDS = 2  # keys of a program that are added up before they reach the table, each that of one lane


class TritonCounter:
    """Up to 16 channels a table of all 65,536 patterns; above, and where classes are told apart, `SortedCounts`.

    Raises:
        ValueError: the device is not a GPU that Triton knows.
    """

    settles_in_threads = False

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        if device.type != "cuda" and not _INTERPRETS:
            raise ValueError(f"engine 'triton': expected the network on an NVIDIA or AMD GPU, but it is on {device}")
        self._num_channels = num_channels
        self._words = device_words(num_channels, device)
        self._buffers = buffers
        self._tables: Tensor | None = None  # this or the other, from the first batch on
        self._keys: SortedCounts[Tensor] | None = None
        self._num_nan: Tensor | int = 0

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        device = preactivation.device
        self._num_nan = self._num_nan + count_nan(preactivation)
        if self._num_channels <= 16 and labels is None:
            if self._tables is None:
                self._tables = torch.zeros(_NUM_TABLES.value, _TABLE_SIZE.value, dtype=torch.int64, device=device)
            _launch(_tally_kernel, preactivation, self._words, self._tables, _HOT_ROUNDS)
        else:
            if self._keys is None:
                self._keys = self._buffers.add(sorted_on_device(self._num_channels, device))
            keys = self._keys.room(preactivation.numel() // self._num_channels, labels)
            self._pack(preactivation, keys)

    def _pack(self, preactivation: Tensor, keys: Tensor) -> None:
        """Writes the key of every position, int32 or int64, shape [positions]."""
        _launch(_pack_kernel, preactivation, self._words, keys)

    @property
    def num_nan(self) -> int:
        return int(self._num_nan)

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        if self._keys is not None:
            return unsigned(self._keys.result(), self._num_channels)
        assert self._tables is not None
        table = self._tables.sum(dim=0).cpu().numpy()
        keys = np.flatnonzero(table)
        return keys.astype(np.uint16), table[keys]

    def result_by_class(self, num_classes: int) -> tuple[NDArray[np.unsignedinteger], ClassCounts]:
        assert self._keys is not None
        return united(self._keys.runs(), self._num_channels, num_classes)

    def pair_counts(self, labelling: int) -> NDArray[np.int64]:
        assert self._keys is not None
        return pair_counts(self._keys.runs(labelling))


def _launch(kernel: Any, preactivation: Tensor, words: Tensor, output: Tensor, *settings: int) -> None:
    values = preactivation.detach()
    if values.numel() == 0:
        return
    if values.dtype == torch.bfloat16 and _INTERPRETS:
        values = (values > 0).view(torch.uint8)  # the interpreter gets subnormal ones wrong
    if values.ndim == 4 and not values.is_contiguous(memory_format=torch.channels_last):
        values = values.contiguous()
    flat = values.unsqueeze(2) if values.ndim == 2 else values.flatten(2)  # [n, channels, positions], a view
    num_images, num_channels, positions_an_image = flat.shape
    channels = min(64, triton.next_power_of_2(num_channels))
    tile, num_warps = next(settings for most, settings in _TILES.items() if channels <= most)
    block = tile // channels
    num_positions = num_images * positions_an_image
    with torch.cuda.device_of(values):
        kernel[(triton.cdiv(num_positions, block),)](
            flat, words, output, num_positions, num_channels, positions_an_image, *flat.stride(), channels, block,
            *settings, num_warps=num_warps,
        )  # fmt: skip


@triton.jit
def _pack_kernel(
    values, words, keys, num_positions, num_channels, positions_an_image,
    image_stride, channel_stride, position_stride, channels_a_tile: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Keys [positions], int32 or int64."""
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    is_real = position < num_positions
    key = _key(
        values, words, position, is_real, num_channels, positions_an_image,
        image_stride, channel_stride, position_stride, channels_a_tile,
    )  # fmt: skip
    tl.store(keys + position, key.to(keys.dtype.element_ty), mask=is_real)


@triton.jit
def _tally_kernel(
    values, words, tables, num_positions, num_channels, positions_an_image,
    image_stride, channel_stride, position_stride, channels_a_tile: tl.constexpr, block: tl.constexpr,
    hot_rounds: tl.constexpr,
):  # fmt: skip
    """Adds to tables [_NUM_TABLES, _TABLE_SIZE], int64, each program to one of them."""
    lane = tl.arange(0, block)
    position = tl.program_id(0).to(tl.int64) * block + lane
    is_real = position < num_positions
    key = _key(
        values, words, position, is_real, num_channels, positions_an_image,
        image_stride, channel_stride, position_stride, channels_a_tile,
    )  # fmt: skip
    table = tables + (tl.program_id(0) % _NUM_TABLES) * _TABLE_SIZE
    for i in tl.static_range(hot_rounds):
        # a key that is hot is likely to be that of any one lane: all of these are one update
        hot = tl.sum(tl.where(lane == i * (block // hot_rounds), key, 0), axis=0)
        is_hot = is_real & (key == hot)
        count = tl.sum(is_hot.to(tl.int64), axis=0)
        if count > 0:
            tl.atomic_add(table + hot, count, sem="relaxed")
        is_real = is_real & (key != hot)
    tl.atomic_add(table + key, tl.full((block,), 1, tl.int64), mask=is_real, sem="relaxed")


@triton.jit
def _key(
    values, words, position, is_real, num_channels, positions_an_image,
    image_stride, channel_stride, position_stride, channels_a_tile: tl.constexpr,
):  # fmt: skip
    """The XOR of the words of the active channels, a tile at a time.  int64, of the shape of `position`."""
    image = position // positions_an_image
    start = image * image_stride + (position - image * positions_an_image) * position_stride
    # the first 64 words are one bit each, whose sum is their XOR
    key = tl.sum(_active_words(values, words, start, is_real, 0, num_channels, channel_stride, channels_a_tile), axis=1)
    for first in range(channels_a_tile, num_channels, channels_a_tile):
        key ^= tl.xor_sum(
            _active_words(values, words, start, is_real, first, num_channels, channel_stride, channels_a_tile), axis=1
        )
    return key


@triton.jit
def _active_words(
    values, words, start, is_real, first, num_channels, channel_stride, channels_a_tile: tl.constexpr
):  # fmt: skip
    """The words of the active channels from `first` on, 0 for the others.  int64, [block, channels_a_tile]."""
    channel = first + tl.arange(0, channels_a_tile)
    is_channel = channel < num_channels
    word = tl.load(words + channel, mask=is_channel, other=0)
    value = tl.load(
        values + start[:, None] + channel[None, :] * channel_stride,
        mask=is_real[:, None] & is_channel[None, :],
        other=0,
    )
    return tl.where(value > 0, word[None, :], 0)
