"""The compiled packing kernel: pre-activations in, keys out, on the CPU.

Sixteen channels at a time become sixteen bits by one vector comparison, so that reading the pre-activations is what
packing costs. Bits of channels 64 and above are folded in byte by byte, from a table of the XOR of their words.
"""

# mypy: disable-error-code="call-arg, var-annotated, assignment"
# (numba's decorators and intrinsics are called otherwise than they are declared)

from __future__ import annotations

import functools

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting import team
from reluscope.counting.team import pointer_to, take_slice
from reluscope.patterns import EXACT_CHANNELS, channel_words

Keys = NDArray[np.unsignedinteger]

_LANES = 16
_BLOCK = 1024  # positions whose keys stay in the first-level cache: at most 8 KiB


class Packer:
    """Packs the pre-activations of one layer, on as many threads as torch uses.

    Args:
        num_channels: of the layer.
    """

    def __init__(self, num_channels: int) -> None:
        self._num_channels = num_channels
        self._words = channel_words(num_channels)
        self._folds = _folds(self._words[EXACT_CHANNELS:])
        self._words_at, self._folds_at = self._words.ctypes.data, self._folds.ctypes.data

    def pack(self, preactivation: Tensor, keys: Keys) -> None:
        """Writes the key of every position, in memory order.

        Args:
            preactivation: [n, channels, height, width] in either memory format, or [n, channels]; any float dtype; on
                the CPU.
            keys: contiguous, of dtype `key_dtype(num_channels)`. Shape [n * height * width].
        """
        if len(keys) == 0:
            return
        values = preactivation.detach()
        if values.dtype != torch.float32:
            values = values > 0  # one more variant of the kernel serves all other dtypes, and exactly
        is_last = values.ndim == 2 or values.is_contiguous(memory_format=torch.channels_last)
        if not is_last and values.dtype == torch.bool:
            values, is_last = values.contiguous(memory_format=torch.channels_last), True
        if values.ndim == 2 or not is_last:
            values = values.contiguous()
        arguments = (
            values.data_ptr(),
            keys.__array_interface__["data"][0],
            self._folds_at,
            len(self._folds),
            self._words_at,
            len(keys),
            self._num_channels,
            len(keys) // len(values),
            is_last,
            values.dtype == torch.bool,
            keys.itemsize,
        )
        team.run(_kernel(), arguments, torch.get_num_threads())


def _folds(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """For each eight channels and each byte of their bits, the XOR of the words of the active ones.

    Shape [channels / 8, 256], with channels rounded up to whole lanes.
    """
    padded = np.zeros(-(-len(words) // _LANES) * 2 * 8, np.uint64)
    padded[: len(words)] = words
    bits = np.arange(256)[:, None] >> np.arange(8) & 1 == 1
    return np.bitwise_xor.reduce(np.where(bits, padded.reshape(-1, 1, 8), np.uint64(0)), axis=2)


@functools.cache
def _kernel() -> team.Kernel:
    """Compiled at the first use, or read from numba's cache, which an edit of this file makes anew; one of `team`,
    whose intrinsics are compiled in, does not.
    """
    return team.Kernel(cfunc(types.void(types.CPointer(types.intp)), nopython=True, cache=True)(_pack_slices))


def _pack_slices(arguments):  # type: ignore[no-untyped-def]
    (_, num_slices, values_at, keys_at, folds_at, num_folds, words_at, num_positions, num_channels, positions_an_image,
     is_last, is_bool, key_bytes) = carray(arguments, 13)  # fmt: skip
    folds = carray(pointer_to(folds_at), (num_folds, 256), np.uint64)
    words = carray(pointer_to(words_at), num_channels, np.uint64)
    floats = carray(pointer_to(values_at), num_positions * num_channels, np.float32)
    bools = carray(pointer_to(values_at), num_positions * num_channels, np.uint8)
    keys16 = carray(pointer_to(keys_at), num_positions, np.uint16)
    keys32 = carray(pointer_to(keys_at), num_positions, np.uint32)
    keys64 = carray(pointer_to(keys_at), num_positions, np.uint64)
    while True:
        taken = take_slice(arguments)
        if taken >= num_slices:
            break
        first, last = num_positions * taken // num_slices, num_positions * (taken + 1) // num_slices
        for start in range(first, last, _BLOCK):
            stop = min(start + _BLOCK, last)
            if key_bytes == 2:
                _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words, start,
                            keys16[start:stop])  # fmt: skip
            elif key_bytes == 4:
                _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words, start,
                            keys32[start:stop])  # fmt: skip
            else:
                _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words, start,
                            keys64[start:stop])  # fmt: skip


@njit
def _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words, start, keys):  # type: ignore[no-untyped-def]
    if not is_last:
        _pack_planes(floats, num_channels, positions_an_image, words, start, keys)
    elif is_bool:
        _pack_rows(bools, num_channels, folds, start, keys)
    else:
        _pack_rows(floats, num_channels, folds, start, keys)


@njit
def _pack_rows(values, num_channels, folds, start, keys):  # type: ignore[no-untyped-def]
    """Values [positions, channels] in memory."""
    as_key = keys.dtype.type
    for i in range(len(keys)):
        row = (start + i) * num_channels
        key = as_key(0)
        for channel in range(0, num_channels, _LANES):
            num_lanes = num_channels - channel
            if row + channel + _LANES <= len(values):
                bits = _bits(values, row + channel)
                if num_lanes < _LANES:
                    bits &= np.uint16((1 << num_lanes) - 1)  # the rest belongs to the next position
            else:
                bits = np.uint16(0)
                for lane in range(num_lanes):
                    bits |= np.uint16((values[row + channel + lane] > 0) << lane)
            if channel < EXACT_CHANNELS:
                key |= as_key(np.uint64(bits) << np.uint64(channel))
            else:
                fold = (channel - EXACT_CHANNELS) // 8
                key ^= as_key(folds[fold, bits & 255] ^ folds[fold + 1, bits >> 8])
        keys[i] = key


@njit
def _pack_planes(values, num_channels, positions_an_image, words, start, keys):  # type: ignore[no-untyped-def]
    """Values [n, channels, positions an image] in memory."""
    as_key = keys.dtype.type
    keys[:] = as_key(0)
    done = 0
    while done < len(keys):
        image, position = divmod(start + done, positions_an_image)
        length = min(positions_an_image - position, len(keys) - done)
        part = keys[done : done + length]
        for channel in range(num_channels):
            word = as_key(words[channel])
            plane = (image * num_channels + channel) * positions_an_image + position
            for i in range(length):
                part[i] ^= word if values[plane + i] > 0 else as_key(0)
        done += length


@intrinsic
def _bits(typing_context, values, start):  # type: ignore[no-untyped-def]
    """Whether each of the sixteen values from `start` on is > 0, the first in bit 0: one vector comparison."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array_type = signature.args[0]
        array = context.make_array(array_type)(context, builder, arguments[0])
        vector_type = ir.VectorType(context.get_value_type(array_type.dtype), _LANES)
        address = builder.gep(array.data, [arguments[1]])
        vector = builder.load(builder.bitcast(address, vector_type.as_pointer()), align=1)
        zero = ir.Constant(vector_type, None)
        if isinstance(array_type.dtype, types.Float):
            is_active = builder.fcmp_ordered(">", vector, zero)
        else:
            is_active = builder.icmp_unsigned(">", vector, zero)
        return builder.bitcast(is_active, ir.IntType(_LANES))

    return types.uint16(values, start), generate
