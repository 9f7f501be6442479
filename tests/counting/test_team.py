"""Kernels on torch's threads: every slice is done once on any number of threads, and without OpenMP too."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import carray, cfunc, types

from reluscope.counting import team
from reluscope.counting.packing import Packer
from reluscope.counting.team import Kernel, pointer_to, take_slice
from reluscope.heap import freed_memory_kept


def mark_slices(arguments):
    num_slices = carray(arguments, 2)[1]
    done = carray(pointer_to(carray(arguments, 3)[2]), num_slices, np.int64)
    while True:
        taken = take_slice(arguments)
        if taken >= num_slices:
            break
        done[taken] += 1 + taken


@pytest.fixture(scope="module", name="kernel")
def _kernel() -> Kernel:
    return Kernel(cfunc(types.void(types.CPointer(types.intp)))(mark_slices))


@pytest.mark.parametrize("num_slices", [1, 2, 5])
def test_every_slice_is_done_once(kernel: Kernel, num_slices: int) -> None:
    done = np.zeros(num_slices, np.int64)
    team.run(kernel, [done.ctypes.data], num_slices)
    assert done.tolist() == list(range(1, num_slices + 1))


def test_without_openmp_slices_follow_each_other(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_parallel_region", lambda: None)
    done = np.zeros(4, np.int64)
    team.run(kernel, [done.ctypes.data], 4)
    assert done.tolist() == [1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP runtime has GOMP_parallel on Linux only")
def test_the_runtime_is_torchs_own() -> None:
    """It follows torch.set_num_threads, and knows the threads that torch has started."""
    region = team._parallel_region()
    assert region is not None
    runtime = ctypes.CDLL(None)
    torch.set_num_threads(2)
    try:
        assert runtime.omp_get_max_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert runtime.omp_get_max_threads() == 1
    assert library_of(region) == library_of(runtime.omp_get_max_threads)


def library_of(function: object) -> bytes:
    """File of the shared library that a C function lives in (dladdr(3))."""

    class Info(ctypes.Structure):
        _fields_ = (
            ("file", ctypes.c_char_p),
            ("base", ctypes.c_void_p),
            ("name", ctypes.c_char_p),
            ("address", ctypes.c_void_p),
        )

    info = Info()
    assert ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(info))
    return info.file


def test_the_second_process_does_not_compile_again() -> None:
    """Compiling takes seconds; reading the compiled kernel well below one."""
    Packer(16).pack(torch.ones(2, 16), np.empty(2, np.uint16))  # it is in the cache now
    code = (
        "import torch, numpy as np\n"
        "from numba.core import event\n"
        "from reluscope.counting.packing import Packer\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    Packer(16).pack(torch.ones(2, 16), np.empty(2, np.uint16))\n"
        "print(len(recorder.buffer))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "0"


def test_freed_memory_is_kept_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        mallopt = staticmethod(lambda parameter, value: calls.append((parameter, value)))

    for name in ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    keep = [(-3, 32 << 20), (-1, -1)]
    with freed_memory_kept():
        with freed_memory_kept():
            assert calls == [*keep, *keep]
        assert len(calls) == 4  # the outer one still keeps it
    assert calls[4:] == [(-1, 64 << 20)]
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    with freed_memory_kept():
        assert len(calls) == 5  # whoever tunes the allocator is left alone
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    with freed_memory_kept():
        assert len(calls) == 5
