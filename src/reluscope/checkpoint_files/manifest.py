"""The manifest of a run of files: which file is which step, and what its bytes were.  Free of torch."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from reluscope.checkpoint_files.finding import CheckpointFile, listed
from reluscope.checkpoint_files.kinds import HEAD, mistaken_for_one
from reluscope.checkpoint_files.steps import ALONE, EPOCH, read_step
from reluscope.files import write_file

BY_NAME = "name"
"""`Entry.step_from` where `steps.read_step` said the step."""

_FEW = 5  # steps that a message names


class Entry(NamedTuple):
    """A row of the manifest.

    Attributes:
        file: as it was found.
        step: optimizer updates done.
        sha256: of its bytes, hexadecimal.
        bytes: its size.
        modified: when it was last written, in nanoseconds: the same size and time stand for the same bytes.
        step_from: what said the step: BY_NAME, an expression for names, or ``field`` and a key.
    """

    file: str
    step: int
    sha256: str
    bytes: int
    modified: int
    step_from: str

    def is_unchanged(self) -> bool:
        """Whether the file has the size and time that it had."""
        try:
            return (self.bytes, self.modified) == stamp(self.file)
        except OSError:
            return False


def stamp(file: str) -> tuple[int, int]:
    """A file's size and the time it was last written, in nanoseconds."""
    found = os.stat(file)  # noqa: PTH116 - of 100,000 files
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
                Entry(
                    row["file"],
                    int(row["step"]),
                    row["sha256"],
                    int(row["bytes"]),
                    int(row["modified"]),
                    row["step_from"],
                )
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: this is no manifest of checkpoints; delete it, and it is made again") from error
    return {row.file: row for row in rows}


def describe(found: Sequence[CheckpointFile], step_from: str, known: Mapping[str, Entry]) -> list[Entry]:
    """The rows of these files as they are now, in the same order.

    Args:
        known: rows of a manifest by file; such a file is read only if it changed since.

    Raises:
        ValueError: a file to be read is something else that was saved under this name.
    """
    stamps = [stamp(file) for _, file in found]  # before their bytes, so that a change meanwhile shows next time
    digests = [
        row.sha256 if (row := known.get(file)) and (row.bytes, row.modified) == now else None
        for (_, file), now in zip(found, stamps, strict=True)
    ]
    unread = digests.count(None)
    rows = []
    with tqdm(total=unread, desc="reading checkpoints", leave=False, disable=None if unread else True) as bar:
        for (step, file), (size, modified), sha256 in zip(found, stamps, digests, strict=True):
            rows.append(Entry(file, step, sha256 or digest(file), size, modified, step_from))
            bar.update(sha256 is None)
    return rows


def write_manifest(rows: Sequence[Entry], path: Path) -> None:
    """Write the manifest of these files, where it is not there already.

    Raises:
        WriteError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Entry._fields)
    writer.writerows(rows)
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_file(path, content)


def digest(file: str) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        ValueError: it is something else that was saved under a checkpoint's name.
    """
    with open(file, "rb") as opened:  # noqa: PTH123 - of 100,000 files
        if what := mistaken_for_one(opened.read(HEAD)):
            raise ValueError(f"{file}: {what}")
        opened.seek(0)
        return hashlib.file_digest(opened, "sha256").hexdigest()


def findings(rows: Sequence[Entry]) -> Iterator[str]:
    """What a person should know of these files before they are counted, a line each."""
    if rows and rows[0].step_from == BY_NAME:
        yield from _unit(rows[0])
    by_digest: dict[str, list[Entry]] = {}
    for row in rows:
        by_digest.setdefault(row.sha256, []).append(row)
    for same in by_digest.values():
        if len(same) > 1:
            steps, files = [row.step for row in same], [row.file for row in same]
            yield f"the same bytes at {_steps(steps, len(steps))}: {listed(files)}"
    if missing := gaps([row.step for row in rows]):
        few = list(itertools.islice(itertools.chain.from_iterable(missing), _FEW))
        yield f"no file for {_steps(few, sum(map(len, missing)))}, where the others are evenly spaced"


def _unit(row: Entry) -> Iterator[str]:
    """What the numbers in the names count, where no word there says that it is steps."""
    read = read_step(row.file)
    if read.counts == ALONE:
        yield f"taken for steps: the only number in each name, such as {read.candidates[0]} in {row.file}"
    elif read.counts == EPOCH:
        yield f"taken for steps: the number of epochs in each name, such as {read.candidates[0]} in {row.file}"


def gaps(steps: Sequence[int]) -> list[range]:
    """The steps that are missing among ascending ones that are evenly spaced but for them; else none.

    Evenly spaced means that more than half of the distances are the same one, and the others multiples of it.
    """
    pairs = list(itertools.pairwise(steps))
    distances = [after - before for before, after in pairs]
    if not distances:
        return []
    usual, times = Counter(distances).most_common(1)[0]
    if times * 2 <= len(distances) or any(distance % usual for distance in distances):
        return []
    return [range(before + usual, after, usual) for before, after in pairs if after - before > usual]


def _steps(steps: Sequence[int], number: int) -> str:
    """So many steps in words, by the first few of them."""
    more = f" and {number - _FEW:,} more" if number > _FEW else ""
    return f"step{'s' if number > 1 else ''} {', '.join(map(str, steps[:_FEW]))}{more}"
