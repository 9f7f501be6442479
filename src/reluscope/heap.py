"""Keeps freed memory at hand between forward passes, of counting and of training.

torch has no cache of its own on the CPU: each activation is a fresh allocation. glibc gives freed memory at the end of
its heap back to the system and, at the next allocation, takes it page by page again, which was seen to cost a third of
a forward pass, or nothing, as small allocations happened to lie.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 << 20
_NEVER = -1

_lock = threading.Lock()
_num_keeping = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it, glibc keeps what blocks of up to 32 MiB gave free; once nobody is within, no more than 64 MiB of it.

    The latter are the thresholds that glibc comes to by itself in a process that frees large blocks; they stay.
    Elsewhere, or where the environment tunes glibc's allocator, it does nothing.
    """
    is_tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if is_tuned or platform.libc_ver()[0] != "glibc":
        yield
        return
    global _num_keeping
    mallopt = ctypes.CDLL(None).mallopt
    with _lock:
        _num_keeping += 1
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _num_keeping -= 1
            if _num_keeping == 0:  # else a count around this one, or in another thread, still wants it
                mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
