"""How far a study is: what was made since the workflow began, of what it had to make, and how long the rest takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reluscope.stages.progress import Job, Progress

STARTED = 1_000_000.0

JOBS = [Job("train", "a"), Job("train", "b"), Job("count", "a0", 30), Job("count", "b0", 10), Job("measure", "m")]


def make(store: str, time: float = STARTED + 1) -> None:
    Path(store).mkdir()
    (Path(store) / "zarr.json").touch()
    os.utime(Path(store) / "zarr.json", (time, time))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_stages_and_time_left() -> None:
    progress = Progress(JOBS, STARTED)
    assert progress.line(STARTED + 60) == "trained 0 of 2 runs, counted 0 of 40 checkpoints, measured 0 of 1"
    make("a")
    make("a0")
    # half of the training and three quarters of the counting took 10 minutes: 5/8 of all, and 3/8 take 6 more
    expected = "trained 1 of 2 runs, counted 30 of 40 checkpoints, measured 0 of 1; about 6 min left"
    assert progress.line(STARTED + 600) == expected
    assert progress.line(STARTED + 60).endswith("; less than a minute left")
    for store in ("b", "b0", "m"):
        make(store)
    assert progress.line(STARTED + 900) == "trained 2 of 2 runs, counted 40 of 40 checkpoints, measured 1 of 1"
    assert not progress.waiting


def test_a_store_made_before_is_still_to_be_made_again() -> None:
    make("a0", STARTED - 1)
    progress = Progress([Job("count", "a0", 30)], STARTED)
    assert progress.line(STARTED + 60) == "counted 0 of 30 checkpoints"


def test_measures_alone() -> None:
    progress = Progress([Job("measure", "m"), Job("measure", "n")], STARTED)
    make("n")
    assert progress.line(STARTED + 120) == "measured 1 of 2; about 2 min left"
