"""The rooms of the package import downwards only, and what measures and draws never waits for torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reluscope

PACKAGE = Path(reluscope.__file__).parent

FLOORS = [
    ["placement"],
    ["compiling", "files", "guarded_torchvision", "heap", "hints", "paths", "patterns", "sources"],
    ["imports", "preactivations", "schedule", "source_digest", "stores"],
    ["data", "networks", "resuming", "series", "verification"],
    ["checkpoint_files", "checkpoints", "counting", "counts", "measures", "figures"],
    ["recording", "training", "scorecard"],
    ["study"],
    ["stages"],
    ["cli"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a file imports, absolute imports and `from reluscope import room` alike."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            if parts[0] == "reluscope":
                rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("reluscope.")}
    return rooms


FILES = [f for f in sorted(PACKAGE.rglob("*.py")) if f.parent != PACKAGE or f.stem != "__init__"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_down(file: Path) -> None:
    here = room_of(file)
    assert here in FLOOR, f"{here} has no floor yet; give it one in FLOORS"
    upward = {room for room in imported_rooms(file) if room != here and FLOOR[room] >= FLOOR[here]}
    assert not upward


def test_the_check_sees_an_import() -> None:
    assert imported_rooms(PACKAGE / "stages" / "counting.py") >= {"checkpoints", "counting", "counts", "study"}


@pytest.mark.parametrize(
    "module",
    [
        "reluscope",
        "reluscope.study",
        "reluscope.stages.gpus",
        "reluscope.stages.measuring",
        "reluscope.stages.drawing",
    ],
)
def test_torch_is_not_waited_for(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there() -> None:
    for name in reluscope.__all__:
        assert getattr(reluscope, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'count_pattern'"):
        _ = reluscope.count_pattern


def test_a_config_is_read_without_matplotlib() -> None:
    """Every job reads it, and few of them draw."""
    config = {
        "study": "s",
        "data": {"name": "digits"},
        "runs": {"a": {"network": "resnet8"}},
        "figures": {"f": {"runs": ["a"], "measures": ["entropy"]}},
    }
    code = f"import sys; from reluscope.study import Study; Study.from_config({config}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "reluscope.figures" in loaded
    assert not {"matplotlib", "torch", "sklearn"} & set(loaded)
