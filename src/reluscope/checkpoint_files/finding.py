"""Which files of a folder or pattern are checkpoints, and of which step.  Free of torch where names say the step."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reluscope.checkpoint_files.steps import (
    ALONE,
    EPOCH,
    MOST_STEPS,
    STEP,
    SUFFIXES,
    SUFFIXES_OF_PATTERNS,
    Reading,
    number_around,
    read_step,
    stem,
    whole_number,
)

_BESIDE = {STEP: "beside a word for steps", EPOCH: "beside a word for epochs", ALONE: "beside neither"}

_NAMED = 3  # files that a message names


class CheckpointFile(NamedTuple):
    """One step's file."""

    step: int
    file: str


def find_files(
    files: str | Sequence[str], step: str | Mapping[str, str] | None, field: Callable[[str, str], int]
) -> list[CheckpointFile]:
    """The checkpoints at `files`, by step.

    Args:
        files: a folder, or a pattern of files (``**`` for any folders), or several of these; ~ is expanded.
        step: a regular expression with one group, searched for in a file's name without its suffix, and in its whole
            path where the name has no match; or ``{"field": key}`` of what the file holds; None to read the name
            (`steps.read_step`).
        field: gives the value of a file's key.

    Raises:
        ValueError: one line: no file, another kind of file, a file without a step or with one that is not clear, or two
            for one step.
    """
    names = sorted({name for one in ([files] if isinstance(files, str) else files) for name in _names(one)})
    if isinstance(step, Mapping):
        steps = [field(name, step["field"]) for name in names]
    elif step is None:
        steps = _steps_by_name(names)
    else:
        steps = _steps_by_expression(names, step)
    found = sorted(map(CheckpointFile, steps, names))
    if found[-1].step >= MOST_STEPS:
        raise ValueError(f"checkpoints.step: {found[-1].file} has {found[-1].step}, which is no number of steps")
    for one, two in itertools.pairwise(found):
        if one.step == two.step:
            raise ValueError(f"checkpoints: two files for step {one.step}: {one.file} and {two.file}; one must go")
    return found


def _steps_by_name(names: Sequence[str]) -> list[int]:
    """The steps that the names say, each beside the same kind of word."""
    readings = [read_step(name) for name in names]
    if unclear := [_described(name, read) for name, read in zip(names, readings, strict=True) if read.step is None]:
        raise ValueError(
            f"checkpoints.step: not clear from the name of {listed(unclear)}; write an expression with one group, as "
            "in epoch_(\\d+), or name in checkpoints.files only files that have a step"
        )
    examples = {read.counts: f"{read.candidates[0]} in {name}" for name, read in zip(names, readings, strict=True)}
    if len(examples) > 1:
        places = " and ".join(f"{example} stands {_BESIDE[counts]}" for counts, example in examples.items())
        raise ValueError(f"checkpoints.step: {places}; write an expression with one group, as in epoch_(\\d+)")
    return [read.step for read in readings if read.step is not None]


def _described(name: str, read: Reading) -> str:
    return f"{name} ({' or '.join(read.candidates) or 'no number'})"


def _steps_by_expression(names: Sequence[str], expression: str) -> list[int]:
    pattern = _pattern(expression)
    steps = {name: _step_in(name, pattern) for name in names}
    if without := [name for name, number in steps.items() if number is None]:
        raise ValueError(
            f"checkpoints.step: {listed(without)} have no step by {expression!r}; write another expression, or name in "
            "checkpoints.files only files that have one"
        )
    return [number for number in steps.values() if number is not None]


def _names(files: str) -> list[str]:
    try:
        path = Path(files).expanduser()
    except RuntimeError as error:
        raise ValueError(f"checkpoints.files: {files!r}: {error}") from error
    if path.is_dir():
        with os.scandir(path) as entries:
            found = [e for e in entries if e.name.endswith(SUFFIXES) and e.name not in SUFFIXES]
            names, others = [e.path for e in found if e.is_file()], [e.path for e in found if not e.is_file()]
    else:
        names, others = [], []
        for name in _matches(str(path)):
            (names if os.path.isfile(name) else others).append(name)  # noqa: PTH113 - of 100,000
    if broken := [name for name in others if Path(name).is_symlink() and not Path(name).exists()]:
        raise ValueError(
            f"checkpoints.files: {listed(broken)} {'is a link' if len(broken) == 1 else 'are links'} to nothing; fetch "
            "what is missing (git-annex's files with git annex get), or delete the link"
        )
    if not names:
        raise ValueError(f"checkpoints.files: no {', '.join(SUFFIXES)} file at {files!r} (in {Path.cwd()})")
    if foreign := [name for name in names if not name.endswith(SUFFIXES_OF_PATTERNS)]:
        raise ValueError(
            f"checkpoints.files: expected {', '.join(SUFFIXES_OF_PATTERNS)}, but {files!r} has {listed(foreign)}"
        )
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
    """None where the pattern is not found, or what it finds is no number.

    Raises:
        ValueError: it finds a piece of a number, as \\d+ does in 10k.
    """
    text = stem(name)
    match = pattern.search(text)
    if match is None:
        text = Path(name).as_posix()
        match = pattern.search(text)
    if match is None or match[1] is None:
        return None
    step = whole_number(match[1])
    if step is not None and whole_number(whole := number_around(text, *match.span(1))) != step:
        raise ValueError(
            f"checkpoints.step: {pattern.pattern!r} takes {match[1]} out of {whole} in {name}; let its group take all"
        )
    return step


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
