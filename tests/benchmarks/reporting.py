"""What the benchmarks' reports share."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
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


def report(
    name: str,
    about: Mapping[str, Any],
    packages: Sequence[str],
    table: str,
    numbers: Mapping[str, Any],
    folder: Path | None,
) -> None:
    """Print what was measured as Markdown; write it and all numbers to <name>.md and <name>.json, if there is a folder.

    Args:
        about: the machine, and what was measured on it.
        packages: those whose versions matter, besides reluscope.
        table: the report's body, Markdown.
        numbers: every single one, JSON types.
    """
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("reluscope", *packages))
    header = {"date": datetime.now(UTC).date().isoformat(), **about, "versions": versions}
    text = "\n".join([*(f"- {key}: {value}" for key, value in header.items()), "", table])
    print(text)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(f"{text}\n")
        (folder / f"{name}.json").write_text(json.dumps({**header, **numbers}, indent=1) + "\n")
