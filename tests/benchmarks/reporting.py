"""What the benchmarks' reports share."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np


def spread(values: Any, digits: int = 2) -> str:
    """Median (least to largest)."""
    array = np.asarray(values)
    return f"{np.median(array):.{digits}f} ({array.min():.{digits}f} to {array.max():.{digits}f})"


def processor() -> str:
    """The processor's name as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]
