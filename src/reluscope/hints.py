"""How this package speaks of what it does not know, and how jobs and commands show its warnings."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_PACKAGE = str(Path(__file__).parent)

_FEW = 8  # names that are read at a glance


def did_you_mean(given: object, allowed: Iterable[object]) -> str:
    """The end of a message about an unknown name.

    Few allowed names are all listed, after the nearest one; of many only the nearest ones, up to three, are named,
    unless none is near. Upper and lower case are near to each other.

    Returns:
        Such as ``"; did you mean 'step'? allowed are epoch, step"``; it begins with "; ".
    """
    names = [str(name) for name in allowed]
    if not names:
        return "; there is none to choose from"
    few = len(names) <= _FEW
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), by_lower, n=1 if few else 3) if isinstance(given, str) else []
    question = f" did you mean {' or '.join(repr(by_lower[name]) for name in near)}?" if near else ""
    listing = f" allowed {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if few or not near else ""
    return f";{question}{listing}"


def require_known(key: str, given: object, allowed: Iterable[object]) -> None:
    """Refuse a name that is not among `allowed`.

    Raises:
        ValueError: it is not; one line that says which `key` it was given for, and what was probably meant.
    """
    names = list(allowed)
    if given not in names:
        raise ValueError(f"{key}: unknown {given!r}{did_you_mean(given, names)}")


def warnings_as_lines(show: Callable[[str], object]) -> None:
    """From now on the warnings of this package are their lines alone, each once, and `show` takes them."""
    usual, said = warnings.showwarning, set[str]()

    def show_line(message: Warning | str, category: type[Warning], filename: str, *others: Any, **named: Any) -> None:
        line = " ".join(str(message).split())
        if category.__module__.partition(".")[0] != "reluscope" and not filename.startswith(_PACKAGE):
            usual(message, category, filename, *others, **named)
        elif line not in said:
            said.add(line)
            show(line)

    warnings.showwarning = show_line
