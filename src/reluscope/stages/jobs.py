"""How a job of the workflow speaks: everything into its log; to the person who waits, how far it is and what failed."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from reluscope import paths
from reluscope.hints import warnings_as_lines

SECONDS_BETWEEN_LINES = 30.0


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Append this process's output to the file `log`.

    Every half minute the log's last line also goes to the terminal. On an error, so does one line that says what it is,
    and so does the first of this package's warnings of each kind; the log has all of them.
    """
    terminal = os.dup(2)
    with open(log, "a", buffering=1) as file:  # noqa: PTH123 - the file's descriptor is needed
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        threading.Thread(target=_repeat_last_line, args=(Path(log), terminal), daemon=True).start()
        told: set[str] = set()

        def show(line: str) -> None:
            print(line, file=sys.stderr, flush=True)
            kind = re.sub("[0-9][0-9,]*", "", line)  # the same of another step is another line
            if kind not in told:
                os.write(terminal, f"{_job(Path(log))}: {line}\n".encode())
                told.add(kind)

        warnings_as_lines(show)
        try:
            yield
        except Exception as error:
            message = next((line for line in str(error).splitlines() if line.strip()), "")
            traceback.print_exc()
            os.write(terminal, f"{type(error).__name__}: {message}\n".encode())
            raise SystemExit(1) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _repeat_last_line(log: Path, terminal: int) -> None:
    """Write the log's last line to the terminal whenever it is another one than half a minute ago."""
    name, said = _job(log), _last_line(log)
    while True:
        time.sleep(SECONDS_BETWEEN_LINES)
        with contextlib.suppress(OSError):  # the terminal or the log may be gone; the job is not
            if (line := _last_line(log)) != said:
                os.write(terminal, f"{name}: {line}\n".encode())
                said = line


def _job(log: Path) -> str:
    return str(log).removeprefix(f"{paths.LOGS}/").removesuffix(".log")


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1000, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""
