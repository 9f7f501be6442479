"""Which files of a folder or pattern are checkpoints, and of which step.  Free of torch where names say the step."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".pt", ".pth", ".safetensors")

LAST_NUMBER = r"(?<!\d)(?<!\d\.)(\d+)(?!\.\d)\D*$"
"""Finds the step where the config does not say how: the last number in the file's name, if it is a whole one."""

MOST_STEPS = 1 << 62
"""No step is that high, so that arithmetic with steps stays within 64 bits."""

_NAMED = 3  # files that a message names


class CheckpointFile(NamedTuple):
    """One step's file."""

    step: int
    file: str


def find_files(
    files: str | Sequence[str], step: str | Mapping[str, str], field: Callable[[str, str], int]
) -> list[CheckpointFile]:
    """The checkpoints at `files`, by step.

    Args:
        files: a folder, or a pattern of files (``**`` for any folders), or several of these; ~ is expanded.
        step: a regular expression with one group, searched for in a file's name without its suffix, and in its whole
            path where the name has no match; or ``{"field": key}`` of what the file holds.
        field: gives the value of a file's key.

    Raises:
        ValueError: one line: no file, another kind of file, a file without a step or with one that is none, or two for
            one step.
    """
    names = sorted({name for one in ([files] if isinstance(files, str) else files) for name in _names(one)})
    if isinstance(step, Mapping):
        found = sorted(CheckpointFile(field(name, step["field"]), name) for name in names)
    else:
        pattern = _pattern(step)
        steps = {name: _step_in(name, pattern) for name in names}
        if without := [name for name, number in steps.items() if number is None]:
            how = "the last number in their names" if step == LAST_NUMBER else repr(step)
            raise ValueError(
                f"checkpoints.step: {listed(without)} have no step by {how}; write another expression, or name in "
                "checkpoints.files only files that have one"
            )
        found = sorted(CheckpointFile(number, name) for name, number in steps.items() if number is not None)
    if found[-1].step >= MOST_STEPS:
        raise ValueError(f"checkpoints.step: {found[-1].file} has {found[-1].step}, which is no number of steps")
    for one, two in itertools.pairwise(found):
        if one.step == two.step:
            raise ValueError(f"checkpoints: two files for step {one.step}: {one.file} and {two.file}; one must go")
    return found


def _names(files: str) -> list[str]:
    try:
        path = Path(files).expanduser()
    except RuntimeError as error:
        raise ValueError(f"checkpoints.files: {files!r}: {error}") from error
    if path.is_dir():
        names = [str(file) for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    else:
        names = [name for name in _matches(str(path)) if Path(name).is_file()]
    if not names:
        raise ValueError(f"checkpoints.files: no {', '.join(SUFFIXES)} file at {files!r} (in {Path.cwd()})")
    if others := [name for name in names if Path(name).suffix not in SUFFIXES]:
        raise ValueError(f"checkpoints.files: expected {', '.join(SUFFIXES)}, but {files!r} has {listed(others)}")
    return sorted(names)


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern


def _pattern(step: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(step)
    except re.error as error:
        raise ValueError(f"checkpoints.step: {step!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(f"checkpoints.step: expected one group, as in epoch_(\\d+), but {step!r} has {pattern.groups}")
    return pattern


def _step_in(name: str, pattern: re.Pattern[str]) -> int | None:
    """None where the pattern is not found, or what it finds is no number."""
    match = pattern.search(Path(name).stem)
    if match is None and pattern.pattern != LAST_NUMBER:  # a folder's number is taken only where it was asked for
        match = pattern.search(Path(name).as_posix())
    number = match[1] if match else None
    return int(number) if number is not None and number.isdecimal() else None


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
