"""Runs a compiled kernel on torch's own OpenMP threads.

Between its operators torch's threads spin, so threads of our own would fight them for the cores: on two cores they cost
more than they gain. A parallel region of torch's own OpenMP runtime wakes the very threads that are spinning.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_Region = Callable[[int, int, int, int], None]


class Kernel:
    """A compiled C function of one pointer to intp arguments: slices taken, number of slices, and its own.

    It works on slices until `take_slice` has no more, so that it is right on any number of threads.

    Args:
        function: what numba.cfunc made.
    """

    def __init__(self, function: Any) -> None:
        self._function = function  # keeps the code in memory
        self.address: int = function.address
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)


def run(kernel: Kernel, arguments: Sequence[int], num_slices: int) -> None:
    """Runs a kernel on up to `num_slices` threads, and returns when all slices are done.

    Args:
        kernel: what to run.
        arguments: its own, behind the two that every kernel has.
        num_slices: parts of the work, at least 1. Where there is one thread they follow each other.
    """
    values = (ctypes.c_ssize_t * (2 + len(arguments)))(0, num_slices, *arguments)
    region = _parallel_region()
    if num_slices == 1 or region is None:
        kernel.call(values)
    else:
        region(kernel.address, ctypes.addressof(values), num_slices, 0)


@functools.cache
def _parallel_region() -> _Region | None:
    """`GOMP_parallel(function, argument, num_threads, flags)` as torch finds it; None where torch's threads are others.

    Both GNU's and LLVM's OpenMP on Linux have it. torch loads its own for the whole process, so that the symbol
    resolves here as it does for torch.
    """
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        region = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):  # no such symbol, or a system without a global scope
        return None
    region.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    region.restype = None
    return region  # type: ignore[no-any-return]


@intrinsic
def take_slice(typing_context, arguments):  # type: ignore[no-untyped-def]
    """Takes the next slice, atomically: counts up the first argument and returns what it was."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        one = ir.Constant(context.get_value_type(types.intp), 1)
        return builder.atomic_rmw("add", values[0], one, "seq_cst")

    return types.intp(arguments), generate


@intrinsic
def add_to(typing_context, address, number):  # type: ignore[no-untyped-def]
    """Adds, atomically, to the int64 at an address."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        builder.atomic_rmw("add", pointer, values[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(address, types.int64), generate


@intrinsic
def pointer_to(typing_context, address):  # type: ignore[no-untyped-def]
    """An address as a pointer, for `numba.carray`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(address), generate
