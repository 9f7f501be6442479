"""What is said of a count that goes on: one line each, as a warning to Python's callers."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

_LISTED = 8  # names that a line lists

_OURS = (str(Path(__file__).parents[1]), contextlib.__file__)


class CountingWarning(UserWarning):
    """Counts are right, but not what one may think: one line that says how."""


def tell(line: str) -> None:
    """Warn whoever called this package.

    Jobs and commands show such a warning as its line alone (`reluscope.hints.warnings_as_lines`).
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(line, CountingWarning, stacklevel=level)


def listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _LISTED
    return ", ".join(repr(name) for name in names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
