"""How a job of the workflow speaks: everything into its log, and one clear line to the person who waits."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Append this process's output to the file `log`; on an error, exit with one line on the terminal too."""
    terminal = os.dup(2)
    with open(log, "a", buffering=1) as file:  # noqa: PTH123 - the file's descriptor is needed
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
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
