"""The manifest: digests, what is read again, duplicates and gaps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reluscope.checkpoint_files import findings, manifest, read_manifest, write_manifest
from reluscope.checkpoint_files.finding import CheckpointFile
from reluscope.checkpoint_files.manifest import describe


@pytest.fixture
def found(tmp_path: Path) -> list[CheckpointFile]:
    contents = {10: b"one", 20: b"two", 40: b"one"}
    for step, content in contents.items():
        (tmp_path / f"{step}.pt").write_bytes(content)
    return [CheckpointFile(step, str(tmp_path / f"{step}.pt")) for step in contents]


def test_a_manifest_reads_back_as_it_was_written(found, tmp_path: Path) -> None:
    rows = describe(found, "field at", {})
    write_manifest(rows, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == {row.file: row for row in rows}
    assert [(row.step, row.bytes) for row in rows] == [(10, 3), (20, 3), (40, 3)]
    assert rows[1].sha256 == hashlib.sha256(b"two").hexdigest()
    assert (tmp_path / "m.csv").read_text().startswith("file,step,sha256,bytes,modified,step_from\n")
    assert {row.step_from for row in rows} == {"field at"}


def test_only_new_and_changed_files_are_read(found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {row.file: row for row in describe(found, "x", {})}
    read: list[str] = []
    digest = manifest.digest
    monkeypatch.setattr(manifest, "digest", lambda file: read.append(file) or digest(file))
    (tmp_path / "20.pt").write_bytes(b"new")
    os.utime(tmp_path / "20.pt", ns=(1, 1))
    (tmp_path / "50.pt").write_bytes(b"five")
    more = [*found, CheckpointFile(50, str(tmp_path / "50.pt"))]
    rows = describe(more, "x", known)
    assert [Path(file).name for file in read] == ["20.pt", "50.pt"]
    assert rows[1].sha256 == hashlib.sha256(b"new").hexdigest()


def test_duplicates_and_gaps_are_told(found, tmp_path: Path) -> None:
    (tmp_path / "50.pt").write_bytes(b"five")
    rows = describe([*found, CheckpointFile(50, str(tmp_path / "50.pt"))], "x", {})
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
    assert [step for one in manifest.gaps(steps) for step in one] == missing


def test_a_number_that_is_no_step_is_told_at_once(tmp_path: Path) -> None:
    """As a date in the name of a last file: the gap is long, and listing it would take all memory."""
    steps = (1, 2, 3, 202611260102)
    rows = [manifest.Entry(f"{step}.pt", step, str(step), 1, 1, "x") for step in steps]
    assert list(findings(rows)) == [
        "no file for steps 4, 5, 6, 7, 8 and 202,611,260,093 more, where the others are evenly spaced"
    ]


def test_a_manifest_is_written_only_where_it_changed(found, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest(describe(found, "x", {}), path)
    before = path.stat().st_ino
    write_manifest(describe(found, "x", read_manifest(path)), path)
    assert path.stat().st_ino == before
    write_manifest(describe(found[:2], "x", {}), path)
    assert len(read_manifest(path)) == 2


def test_something_else_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no manifest of checkpoints; delete it"):
        read_manifest(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "none.csv") == {}
