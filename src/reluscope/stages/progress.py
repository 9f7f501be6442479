"""How far a study is while Snakemake makes it: stages, checkpoints, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SECONDS_BETWEEN_LINES = 60.0

WORDS = {"train": "trained {} of {} runs", "count": "counted {} of {} checkpoints", "measure": "measured {} of {}"}
"""What has become of each stage's jobs, by the name of their rule."""


@dataclass(frozen=True)
class Job:
    """A job that this run of the workflow has to do.

    Attributes:
        stage: a key of `WORDS`.
        store: what it makes.
        size: what it counts for: checkpoints of a counting job, 1 otherwise.
    """

    stage: str
    store: str
    size: int = 1


@dataclass
class Progress:
    """Of the jobs of one run of the workflow, which have made their store since it began.

    Attributes:
        waiting: jobs that have not, as last looked.
        started: when it began, as files' times are given.
    """

    waiting: list[Job]
    started: float
    totals: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.totals = self._sizes()

    def line(self, now: float) -> str:
        """The stages in words, and how long trainings and counts still take at the pace so far."""
        self.waiting = [job for job in self.waiting if not self._is_made(job.store)]
        left = self._sizes()
        done = {stage: self.totals[stage] - left[stage] for stage in WORDS}
        parts = [
            WORDS[stage].format(f"{done[stage]:,}", f"{self.totals[stage]:,}") for stage in WORDS if self.totals[stage]
        ]
        return ", ".join(parts) + self._time_left(done, now)

    def _time_left(self, done: dict[str, int], now: float) -> str:
        """Trainings and counts count for half each; measures only where there is nothing else."""
        stages = [stage for stage in ("train", "count") if self.totals[stage]] or ["measure"]
        share = sum(done[stage] / self.totals[stage] for stage in stages) / len(stages)
        if not 0 < share < 1:
            return ""
        minutes = (now - self.started) * (1 - share) / share / 60
        return f"; about {minutes:,.0f} min left" if minutes >= 1 else "; less than a minute left"

    def _is_made(self, store: str) -> bool:
        file = Path(store) / "zarr.json"
        return file.exists() and file.stat().st_mtime >= self.started

    def _sizes(self) -> dict[str, int]:
        return {stage: sum(job.size for job in self.waiting if job.stage == stage) for stage in WORDS}


def report(jobs: Iterable[Job], started: float) -> None:
    """Say every minute how far the jobs are, on the terminal, as long as this process lives."""
    progress = Progress(list(jobs), started)
    if progress.waiting:
        threading.Thread(target=_keep_saying, args=(progress,), daemon=True).start()


def _keep_saying(progress: Progress) -> None:
    said = ""
    while progress.waiting:
        time.sleep(SECONDS_BETWEEN_LINES)
        if (line := progress.line(time.time())) != said:
            print(line, file=sys.stderr, flush=True)
            said = line
