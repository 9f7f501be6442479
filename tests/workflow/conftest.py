"""The tiny study, run once for all tests of the workflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import Clone


@pytest.fixture(scope="session")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The tiny study, run once from nothing."""
    clone = Clone(repository, tmp_path_factory.mktemp("clone"))
    printed = clone.run()
    assert "made results/figures/f.png" in printed
    assert "made results/scorecard.md" in printed
    assert "made 9 measures" in printed
    return clone


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished study, to change at will; times of files are kept."""
    copy = object.__new__(Clone)
    copy.folder = tmp_path / "clone"
    shutil.copytree(finished.folder, copy.folder)
    return copy
