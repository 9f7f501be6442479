"""numba's compilers. What they made is kept on the disk, where that can be: it saves each process seconds.

numba itself gives up where it finds no folder for it, as in a container or a system's installation, or where the disk
is full. Here everything is then compiled anew in each process, and a warning says so.
"""

# mypy: disable-error-code="call-arg"
# (numba's decorators are called otherwise than they are declared)

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

from numba import cfunc, njit
from numba.core.caching import FunctionCache

_FAILURES = (RuntimeError, OSError, EOFError, pickle.UnpicklingError)
"""What numba raises where there is no folder, where it cannot be written to, and where a file in it is damaged."""


def compiled(function: Callable[..., Any]) -> Any:
    """`numba.njit`, for each kind of arguments, without Python's global lock."""
    made: Any = njit(nogil=True)(function)
    try:
        made._cache = _Cache(function)
    except _FAILURES as error:
        _tell(str(error))
    return made


def compiled_for_c(signature: Any, function: Callable[..., Any]) -> Any:
    """`numba.cfunc`: compiled now, for callers that are not Python."""
    try:
        return cfunc(signature, nopython=True, cache=True)(function)
    except _FAILURES as error:  # those of compiling come again
        made = cfunc(signature, nopython=True)(function)
        _tell(str(error))
        return made


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's own, in which nothing is found, or kept, where numba would fail."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except _FAILURES as error:
            _tell(str(error))
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except _FAILURES as error:
            _tell(str(error))


_told: list[str] = []  # in this process


def _tell(reason: str) -> None:
    """Once: what holds of one function holds of all."""
    if not _told:
        _told.append(reason)
        warnings.warn(
            f"what numba compiles cannot be kept, and takes seconds of each process ({' '.join(reason.split())}); set "
            "NUMBA_CACHE_DIR to a folder that can be written to",
            stacklevel=3,
        )
