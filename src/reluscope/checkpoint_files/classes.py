"""How many classes a checkpoint of one of our networks tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reluscope.checkpoint_files.loading import read_file


def num_classes(file: str) -> int | None:
    """Rows of the weights of the layer ``linear``, with which our networks end; None where a file has no such layer.

    Raises:
        ValueError: it cannot be read.
    """
    waiting: list[Any] = [read_file(file)]
    while waiting:
        content = waiting.pop()
        for name, value in content.items() if isinstance(content, Mapping) else ():
            if isinstance(value, Tensor) and value.ndim == 2 and f".{name}".endswith(".linear.weight"):
                return len(value)
            waiting.append(value)
    return None
