"""The manifest of a run of files: which file is which step, and what its bytes were.  Free of torch."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reluscope.checkpoint_files.finding import CheckpointFile
from reluscope.files import write_file

_FEW = 5  # steps that a message names


class Entry(NamedTuple):
    """A row of the manifest.

    Attributes:
        file: as it was found.
        step: optimizer updates done.
        sha256: of its bytes, hexadecimal.
        bytes: its size.
        modified: when it was last written, in nanoseconds: the same size and time stand for the same bytes.
    """

    file: str
    step: int
    sha256: str
    bytes: int
    modified: int

    def is_unchanged(self) -> bool:
        """Whether the file has the size and time that it had."""
        return Path(self.file).is_file() and (self.bytes, self.modified) == stamp(self.file)


def stamp(file: str) -> tuple[int, int]:
    """A file's size and the time it was last written, in nanoseconds."""
    found = Path(file).stat()
    return found.st_size, found.st_mtime_ns


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The rows of a manifest, by file; none where there is no manifest.

    Raises:
        ValueError: it is no manifest.
    """
    if not Path(path).is_file():
        return {}
    try:
        with Path(path).open(newline="") as file:
            rows = [
                Entry(row["file"], int(row["step"]), row["sha256"], int(row["bytes"]), int(row["modified"]))
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: this is no manifest of checkpoints; delete it, and it is made again") from error
    return {row.file: row for row in rows}


def write_manifest(found: Iterable[CheckpointFile], path: Path) -> list[Entry]:
    """Write the manifest of these files and return its rows; a file that it has already is read only if it changed."""
    known = read_manifest(path)
    rows = []
    for step, file in found:
        is_known = file in known and known[file].is_unchanged()
        rows.append(Entry(file, step, known[file].sha256 if is_known else digest(file), *stamp(file)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Entry._fields)
    writer.writerows(rows)
    write_file(path, text.getvalue().encode())
    return rows


def update_manifest(found: Sequence[CheckpointFile], path: Path) -> list[str]:
    """Write the manifest where it is not that of these files as they are now.

    Returns:
        What a person should know of them (`findings`); nothing where the manifest stays as it is.
    """
    known = read_manifest(path)
    if [(row.step, row.file) for row in known.values() if row.is_unchanged()] == list(found):
        return []
    return list(findings(write_manifest(found, path)))


def digest(file: str) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def findings(rows: Sequence[Entry]) -> Iterator[str]:
    """What a person should know of these files before they are counted, a line each."""
    by_digest: dict[str, list[Entry]] = {}
    for row in rows:
        by_digest.setdefault(row.sha256, []).append(row)
    for same in by_digest.values():
        if len(same) > 1:
            yield f"the same bytes at {_steps([row.step for row in same])}: {', '.join(row.file for row in same)}"
    if missing := gaps([row.step for row in rows]):
        yield f"no file for {_steps(missing)}, where the others are evenly spaced"


def gaps(steps: Sequence[int]) -> list[int]:
    """The steps that are missing among ascending ones that are evenly spaced but for them; else none.

    Evenly spaced means that more than half of the distances are the same one, and the others multiples of it.
    """
    distances = np.diff(steps)
    if not len(distances):
        return []
    usual, times = Counter(distances.tolist()).most_common(1)[0]
    if times * 2 <= len(distances) or (distances % usual).any():
        return []
    return np.setdiff1d(np.arange(steps[0], steps[-1], usual), steps).tolist()


def _steps(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - _FEW:,} more" if len(steps) > _FEW else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps[:_FEW]))}{more}"
