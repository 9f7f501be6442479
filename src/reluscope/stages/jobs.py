"""How a job of the workflow speaks: everything into its log; to the person who waits, how far it is and what failed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reluscope import paths
from reluscope.sources import ROOT

SECONDS_BETWEEN_LINES = 30.0


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Append this process's output to the file `log`.

    Every half minute the log's last line also goes to the terminal. On an error, so does one line that says what it is,
    and so does the first of the package's warnings; the log has all of them.
    """
    terminal = os.dup(2)
    with open(log, "a", buffering=1) as file:  # noqa: PTH123 - the file's descriptor is needed
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        threading.Thread(target=_repeat_last_line, args=(Path(log), terminal), daemon=True).start()
        name = _name_of(log)
        warned: list[str] = []

        def tell_first(line: str) -> None:
            if not warned:
                os.write(terminal, f"{name}: {line}\n".encode())
            warned.append(line)

        try:
            with warnings_in_one_line(tell_first):
                yield
        except Exception as error:
            message = next((line for line in str(error).splitlines() if line.strip()), "")
            traceback.print_exc()
            os.write(terminal, f"{type(error).__name__}: {message}\n".encode())
            raise SystemExit(1) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


@contextlib.contextmanager
def warnings_in_one_line(also: Callable[[str], object] = lambda line: None) -> Iterator[None]:
    """The package's own warnings as lines without file and source, on standard error; others stay as they are.

    Args:
        also: is given each such line.
    """
    show = warnings.showwarning

    def show_line(message: Any, category: Any, filename: str, *others: Any, **more: Any) -> None:
        if not Path(filename).is_relative_to(ROOT):
            show(message, category, filename, *others, **more)
            return
        line = " ".join(str(message).split())
        print(line, file=sys.stderr, flush=True)
        also(line)

    warnings.showwarning = show_line
    try:
        yield
    finally:
        warnings.showwarning = show


def _name_of(log: Path | str) -> str:
    return str(log).removeprefix(f"{paths.LOGS}/").removesuffix(".log")


def _repeat_last_line(log: Path, terminal: int) -> None:
    """Write the log's last line to the terminal whenever it is another one than half a minute ago."""
    name = _name_of(log)
    said = _last_line(log)
    while True:
        time.sleep(SECONDS_BETWEEN_LINES)
        with contextlib.suppress(OSError):  # the terminal or the log may be gone; the job is not
            if (line := _last_line(log)) != said:
                os.write(terminal, f"{name}: {line}\n".encode())
                said = line


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1000, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""
