"""The compiled packing kernel: pre-activations in, keys out, on the CPU.

Sixteen channels at a time become sixteen bits by one vector comparison, so that reading the pre-activations is what
packing costs. Bits of channels 64 and above are folded in byte by byte, from a table of the XOR of their words. Another
comparison tells whether any of the values is NaN; only where one is, they are counted.
"""

# mypy: disable-error-code="call-arg, var-annotated, assignment"
# (numba's decorators and intrinsics are called otherwise than they are declared)

from __future__ import annotations

import functools

import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from reluscope.compiling import compiled_for_c
from reluscope.counting import team
from reluscope.counting.nan import count_nan
from reluscope.counting.team import add_to, pointer_to, take_slice
from reluscope.patterns import EXACT_CHANNELS, channel_words

Keys = NDArray[np.unsignedinteger]

_LANES = 16
_BLOCK = 1024  # positions whose keys stay in the first-level cache: at most 8 KiB


class Packer:
    """Packs the pre-activations of one layer, on as many threads as torch uses.

    Args:
        num_channels: of the layer.

    Attributes:
        num_nan: of all values that were packed, those that are NaN; int64, shape [1].
    """

    def __init__(self, num_channels: int) -> None:
        self.num_nan = np.zeros(1, np.int64)
        self._num_channels = num_channels
        self._words = channel_words(num_channels)
        self._folds = _folds(self._words[EXACT_CHANNELS:])
        # looked up once: it takes as long as packing a small tensor
        self._words_at, self._folds_at, self._num_nan_at = (
            array.ctypes.data for array in (self._words, self._folds, self.num_nan)
        )

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
            self.num_nan += int(count_nan(values))
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
            self._num_nan_at,
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
    return team.Kernel(compiled_for_c(types.void(types.CPointer(types.intp)), _pack_slices))


def _pack_slices(arguments):  # type: ignore[no-untyped-def]
    (_, num_slices, values_at, keys_at, folds_at, num_folds, words_at, num_positions, num_channels, positions_an_image,
     is_last, is_bool, key_bytes, num_nan_at) = carray(arguments, 14)  # fmt: skip
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
                has_nan = _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words,
                                      start, keys16[start:stop])  # fmt: skip
            elif key_bytes == 4:
                has_nan = _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words,
                                      start, keys32[start:stop])  # fmt: skip
            else:
                has_nan = _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words,
                                      start, keys64[start:stop])  # fmt: skip
            if has_nan:
                add_to(num_nan_at, _num_nan(floats, is_last, num_channels, positions_an_image, start, stop))


@njit
def _pack_block(floats, bools, is_last, is_bool, num_channels, positions_an_image, folds, words, start, keys):  # type: ignore[no-untyped-def]
    """Whether a value may be NaN; for certain not where it says so."""
    if not is_last:
        return _pack_planes(floats, num_channels, positions_an_image, words, start, keys)
    if is_bool:
        _pack_rows(bools, num_channels, folds, start, keys)
        return False
    return _pack_rows(floats, num_channels, folds, start, keys)


@njit
def _pack_rows(values, num_channels, folds, start, keys):  # type: ignore[no-untyped-def]
    """Values [positions, channels] in memory."""
    as_key = keys.dtype.type
    nan = np.uint16(0)
    for i in range(len(keys)):
        row = (start + i) * num_channels
        key = as_key(0)
        for channel in range(0, num_channels, _LANES):
            num_lanes = num_channels - channel
            if row + channel + _LANES <= len(values):
                bits = _bits(values, row + channel)
                nan |= _nan_bits(values, row + channel)
                if num_lanes < _LANES:
                    bits &= np.uint16((1 << num_lanes) - 1)  # the rest belongs to the next position
            else:
                bits = np.uint16(0)
                for lane in range(num_lanes):
                    bits |= np.uint16((values[row + channel + lane] > 0) << lane)
                    nan |= np.uint16(np.isnan(values[row + channel + lane]))
            if channel < EXACT_CHANNELS:
                key |= as_key(np.uint64(bits) << np.uint64(channel))
            else:
                fold = (channel - EXACT_CHANNELS) // 8
                key ^= as_key(folds[fold, bits & 255] ^ folds[fold + 1, bits >> 8])
        keys[i] = key
    return nan != 0


@njit
def _pack_planes(values, num_channels, positions_an_image, words, start, keys):  # type: ignore[no-untyped-def]
    """Values [n, channels, positions an image] in memory."""
    as_key = keys.dtype.type
    keys[:] = as_key(0)
    nan = np.uint16(0)
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
            whole = length - length % (4 * _LANES)
            for i in range(0, whole, 4 * _LANES):
                nan |= _nan_bits_of_four(values, plane + i)
            for i in range(whole, length):
                nan |= np.uint16(np.isnan(values[plane + i]))
        done += length
    return nan != 0


@njit
def _num_nan(values, is_last, num_channels, positions_an_image, start, stop):  # type: ignore[no-untyped-def]
    """Of the values of the positions from `start` to `stop`."""
    num_nan = 0
    for position in range(start, stop):
        image, within = divmod(position, positions_an_image)
        for channel in range(num_channels):
            plane = (image * num_channels + channel) * positions_an_image + within
            num_nan += np.isnan(values[position * num_channels + channel if is_last else plane])
    return num_nan


@intrinsic
def _bits(typing_context, values, start):  # type: ignore[no-untyped-def]
    """Whether each of the sixteen values from `start` on is > 0, the first in bit 0: one vector comparison."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector = _load_vector(context, builder, signature, arguments)
        zero = ir.Constant(vector.type, None)
        if isinstance(signature.args[0].dtype, types.Float):
            is_active = builder.fcmp_ordered(">", vector, zero)
        else:
            is_active = builder.icmp_unsigned(">", vector, zero)
        return builder.bitcast(is_active, ir.IntType(_LANES))

    return types.uint16(values, start), generate


@intrinsic
def _nan_bits(typing_context, values, start):  # type: ignore[no-untyped-def]
    """Whether each of the sixteen values from `start` on is NaN, the first in bit 0: one vector comparison."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if not isinstance(signature.args[0].dtype, types.Float):
            return ir.Constant(ir.IntType(_LANES), 0)
        vector = _load_vector(context, builder, signature, arguments)
        return builder.bitcast(builder.fcmp_unordered("uno", vector, vector), ir.IntType(_LANES))

    return types.uint16(values, start), generate


@intrinsic
def _nan_bits_of_four(typing_context, values, start):  # type: ignore[no-untyped-def]
    """Four times sixteen values: a bit is 1 where one of its four is NaN. One comparison tells it of two vectors."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, first = arguments
        starts = [builder.add(first, ir.Constant(first.type, i * _LANES)) for i in range(4)]
        a, b, c, d = (_load_vector(context, builder, signature, (array, at)) for at in starts)
        are_nan = builder.or_(builder.fcmp_unordered("uno", a, b), builder.fcmp_unordered("uno", c, d))
        return builder.bitcast(are_nan, ir.IntType(_LANES))

    return types.uint16(values, start), generate


def _load_vector(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, arguments[0])
    vector_type = ir.VectorType(context.get_value_type(array_type.dtype), _LANES)
    address = builder.gep(array.data, [arguments[1]])
    return builder.load(builder.bitcast(address, vector_type.as_pointer()), align=1)
