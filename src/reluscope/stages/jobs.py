"""How a job of the workflow speaks: everything into its log, and one clear line to the person who waits."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED = (ValueError, OSError, FloatingPointError)
"""What bad input raises; its message says what to do, and a traceback would hide it."""


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send this process's output to the file `log`; on an error, exit with one line on the terminal too."""
    terminal = os.dup(2)
    with open(log, "w", buffering=1) as file:  # noqa: PTH123 - the file's descriptor is needed
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except Exception as error:
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            if not isinstance(error, EXPECTED):
                traceback.print_exc()
            for stream in (2, terminal):
                os.write(stream, f"{line}\n".encode())
            sys.stdout.flush()
            raise SystemExit(1) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
