"""The manifest: digests, what is read again, duplicates and gaps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reluscope.checkpoint_files import findings, manifest, read_manifest, write_manifest
from reluscope.checkpoint_files.finding import CheckpointFile


@pytest.fixture
def found(tmp_path: Path) -> list[CheckpointFile]:
    contents = {10: b"one", 20: b"two", 40: b"one"}
    for step, content in contents.items():
        (tmp_path / f"{step}.pt").write_bytes(content)
    return [CheckpointFile(step, str(tmp_path / f"{step}.pt")) for step in contents]


def test_a_manifest_reads_back_as_it_was_written(found, tmp_path: Path) -> None:
    rows = write_manifest(found, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == {row.file: row for row in rows}
    assert [(row.step, row.bytes) for row in rows] == [(10, 3), (20, 3), (40, 3)]
    assert rows[1].sha256 == hashlib.sha256(b"two").hexdigest()
    assert (tmp_path / "m.csv").read_text().startswith("file,step,sha256,bytes,modified\n")


def test_only_new_and_changed_files_are_read(found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(found, tmp_path / "m.csv")
    read: list[str] = []
    digest = manifest.digest
    monkeypatch.setattr(manifest, "digest", lambda file: read.append(file) or digest(file))
    (tmp_path / "20.pt").write_bytes(b"new")
    os.utime(tmp_path / "20.pt", ns=(1, 1))
    (tmp_path / "50.pt").write_bytes(b"five")
    more = [*found, CheckpointFile(50, str(tmp_path / "50.pt"))]
    rows = write_manifest(more, tmp_path / "m.csv")
    assert [Path(file).name for file in read] == ["20.pt", "50.pt"]
    assert rows[1].sha256 == hashlib.sha256(b"new").hexdigest()


def test_duplicates_and_gaps_are_told(found, tmp_path: Path) -> None:
    (tmp_path / "50.pt").write_bytes(b"five")
    rows = write_manifest([*found, CheckpointFile(50, str(tmp_path / "50.pt"))], tmp_path / "m.csv")
    same, gap = findings(rows)
    assert same.startswith("the same bytes at steps 10, 40: ")
    assert gap == "no file for step 30, where the others are evenly spaced"


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([5], []),
        ([0, 10, 20, 30], []),
        ([0, 10, 20, 40, 50, 80], [30, 60, 70]),
        ([0, 1, 10, 100, 1000], []),  # not evenly spaced
        ([0, 10, 25, 35, 45], []),
        ([0, 10, 30], []),  # too few to tell
    ],
)
def test_gaps(steps: list[int], missing: list[int]) -> None:
    assert manifest.gaps(steps) == missing


def test_something_else_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no manifest of checkpoints; delete it"):
        read_manifest(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "none.csv") == {}
