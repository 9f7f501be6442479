"""Counting and measuring go on where numba has no folder to keep what it compiles, or cannot use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reluscope

PACKAGE = Path(reluscope.__file__).parent
TOLD = "what numba compiles cannot be kept, and takes seconds of each process ("

COUNT = """
import torch
from torch import nn
import reluscope
from reluscope.measures import _matching, weighted_jaccard
_matching.MERGED_FROM = 0  # whatever the size, compiled code merges
network, images = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.arange(64.0).reshape(16, 4) % 3 - 1
counts, others = (reluscope.count_patterns(network, given, 8)[0] for given in (images, images[:12]))
assert counts.keys.tolist() == [0b0010, 0b0100, 0b1001], counts.keys
assert counts.counts.tolist() == [5, 6, 5], counts.counts
assert weighted_jaccard(counts, others) == 12 / 16
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that knows nothing compiled."""
    shutil.copytree(PACKAGE, tmp_path / "src/reluscope", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src/reluscope"


def run(copy: Path, code: str = COUNT, **environment: str) -> str:
    """Standard error of a process that counts and measures with this copy."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    path = {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **path, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def take_folders(copy: Path) -> None:
    """No folder for compiled code can be made beside the sources, not even by root: there are files of its name."""
    for folder in (copy / "counting", copy / "measures"):
        (folder / "__pycache__").touch()


def test_without_any_folder_it_is_told_once(copy: Path) -> None:
    take_folders(copy)
    said = run(copy, HOME="/dev/null")
    assert said.count(TOLD) == 1
    assert "no locator available" in said
    assert "set NUMBA_CACHE_DIR to a folder that can be written to" in said


@pytest.mark.slow
def test_a_folder_that_is_given_is_used(copy: Path, tmp_path: Path) -> None:
    take_folders(copy)
    given = tmp_path / "given"
    assert TOLD not in run(copy, HOME="/dev/null", NUMBA_CACHE_DIR=str(given))
    kept = {path: path.stat().st_mtime_ns for path in given.rglob("*.nbc")}
    assert {path.name.partition("-")[0] for path in kept} >= {"packing._pack_slices", "_merging.sum_of_minima"}
    assert TOLD not in run(copy, HOME="/dev/null", NUMBA_CACHE_DIR=str(given))
    assert kept == {path: path.stat().st_mtime_ns for path in given.rglob("*.nbc")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_full_disk_is_told(copy: Path, tmp_path: Path) -> None:
    """Every file may be made, and none may hold a byte."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    said = run(copy, limit + COUNT, HOME=str(tmp_path))
    assert said.count(TOLD) == 1
    assert "File too large" in said


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"no pickle"])
def test_a_damaged_file_is_told_and_counting_goes_on(copy: Path, tmp_path: Path, damage: bytes) -> None:
    """As a loss of power may leave it."""
    given = {"HOME": "/dev/null", "NUMBA_CACHE_DIR": str(tmp_path / "given")}
    run(copy, **given)
    damaged = [file for kind in ("*.nbi", "*.nbc") for file in (tmp_path / "given").rglob(kind)]
    assert damaged
    for file in damaged:
        file.write_bytes(damage)
    assert run(copy, **given).count(TOLD) == 1
