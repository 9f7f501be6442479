"""What the scorecard knows of a run, and how claims read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluscope.series import MeasureSeries

FIRST_STEPS = 10
"""The paper's "first steps": Section 4.4 finds the early drop of the entropy within the first 10."""

EIGHT_STEPS = 8
"""The second moment of the paper's Figure 2; all runs that are counted often and those that are not have it."""

EARLY_PHASE = 3000
"""Steps of the paper's early phase (Section 3.2, Figure 1)."""

CIFAR10_IMAGES = 50_000
"""Training images of the paper's data."""

EPOCHS = {"stepwise": 200, "cyclic": 100, "one_cycle": 50}
"""Epochs of the paper's trainings, by schedule."""

Numbers = NDArray[np.float64]


def is_papers_data(data: Mapping[str, Any]) -> bool:
    """Whether it is all of CIFAR-10; a folder of as many images is taken for it."""
    return data["name"] in ("cifar10", "imagefolder") and data["num_images"] == CIFAR10_IMAGES


class MissingError(Exception):
    """What a claim needs is not in the study; the message says what, and in which run."""


@dataclass(frozen=True, eq=False)
class RunResult:
    """One finished run.

    Attributes:
        name: of the run; runs that differ only in their seed are named alike up to "-seed<seed>".
        network: name (the family), depth, activation, and widths where the family takes them.
        method: schedule and its numbers, as `Method.to_dict` gives them.
        data: name, num_images (training images), and the rest of the data section.
        seed: of the run.
        num_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps an epoch.
        num_channels: of each layer; shape [layer].
        num_positions: of each layer, over all images; shape [layer].
        measures: by name, or by a name of `VARIANTS`; each may be counted at steps of its own.
        test_accuracy: after the last step, 0 to 1; None where it was not evaluated.
        learning_rate: by step, at least at the counted ones; 0, the initialisation, may be left out.
    """

    name: str
    network: Mapping[str, Any]
    method: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int
    num_steps: int
    steps_per_epoch: int
    num_channels: Sequence[int]
    num_positions: Sequence[int]
    measures: Mapping[str, MeasureSeries]
    test_accuracy: float | None = None
    learning_rate: Mapping[int, float] | None = None


class Reading:
    """One run as a claim reads it; notes which counted steps were looked at, and says what is missing."""

    def __init__(self, run: RunResult) -> None:
        self.run = run
        self.steps: set[int] = set()

    def series(self, measure: str) -> MeasureSeries:
        if measure not in self.run.measures:
            raise MissingError(f"{self.run.name}: no measure {measure}")
        return self.run.measures[measure]

    def near(self, measure: str, step: int, first: int, last: int) -> Numbers:
        """The values at the counted step nearest to `step` from `first` to `last`.  Shape [layer]."""
        series = self.series(measure)
        rows = np.flatnonzero((series.step >= first) & (series.step <= last))
        if not len(rows):
            wanted = f"step {step}" if first == last else f"step from {first} to {last}"
            raise MissingError(
                f"{self.run.name}: {measure} is not counted at {'' if first == last else 'any '}{wanted}"
            )
        row = rows[np.argmin(np.abs(series.step[rows] - step))]
        self.steps.add(int(series.step[row]))
        return series.values[row]

    def at(self, measure: str, step: int) -> Numbers:
        """The values at exactly this step.  Shape [layer]."""
        return self.near(measure, step, step, step)

    def at_end(self, measure: str) -> Numbers:
        """The values after the last step; on the paper's data, of a training as long as the paper's.  Shape [layer]."""
        epochs, enough = self.run.method["epochs"], EPOCHS[self.run.method["schedule"]]
        if epochs < enough and is_papers_data(self.run.data):
            raise MissingError(f"{self.run.name}: trained for {epochs} epochs, the paper's for {enough}")
        return self.at(measure, self.run.num_steps)

    def after_first_steps(self, measure: str) -> Numbers:
        """The values at step 8 (Figure 2), or at the nearest counted one of the first ten.  Shape [layer]."""
        return self.near(measure, EIGHT_STEPS, 1, FIRST_STEPS)

    def after_early_phase(self, measure: str) -> Numbers:
        """The values after 3,000 steps, or half an epoch about them; at the end of a shorter training."""
        last, half = self.end_of_early_phase, self.half_epoch
        return self.near(measure, last, max(last - half, 0), min(last + half, self.run.num_steps))

    def during(self, measure: str, first: int, last: int, gap: int) -> tuple[Numbers, Numbers]:
        """Steps [step] and values [step, layer] at all counted steps from `first` to `last`.

        Raises:
            MissingError: more than `gap` steps lie between two of them, or between the first or last and its border.
        """
        series = self.series(measure)
        rows = (series.step >= first) & (series.step <= last)
        steps = series.step[rows]
        if not len(steps) or np.diff(np.concatenate([[first], steps, [last]])).max() > gap:
            every = "every step" if gap == 1 else f"at least every {gap} steps"
            raise MissingError(f"{self.run.name}: {measure} is not counted {every} from {first} to {last}")
        self.steps.update(steps.tolist())
        return steps.astype(np.float64), series.values[rows]

    def throughout(self, measure: str) -> tuple[Numbers, Numbers]:
        """Shares of the training [step], from 0 to 1, and values [step, layer].

        Raises:
            MissingError: not counted at step 0, at the end, and at least every epoch or twentieth of the training.
        """
        self.at(measure, 0)
        self.at_end(measure)
        gap = max(self.run.num_steps // 20, self.run.steps_per_epoch)
        steps, values = self.during(measure, 0, self.run.num_steps, gap)
        return steps / self.run.num_steps, values

    @property
    def end_of_early_phase(self) -> int:
        """Step 3,000, or the end of a shorter training; but on the paper's data, of which it gives numbers, 3,000."""
        if self.run.num_steps < EARLY_PHASE and is_papers_data(self.run.data):
            raise MissingError(f"{self.run.name}: the training ends at step {self.run.num_steps}, before 3,000")
        return min(EARLY_PHASE, self.run.num_steps)

    @property
    def half_epoch(self) -> int:
        """Steps of half an epoch, rounded up."""
        return -(-self.run.steps_per_epoch // 2)

    @property
    def first_drop(self) -> int:
        """The last step that was made with the initial learning rate (stepwise)."""
        if not self.run.method["milestones"]:
            raise MissingError(f"{self.run.name}: its learning rate never drops")
        return round(self.run.method["milestones"][0] * self.run.num_steps)

    def stage(self, measure: str, number: int) -> NDArray[np.bool_]:
        """Which layers belong to the first (1), middle (2) or last (3) stage.  Shape [layer]."""
        return self.series(measure).stage == number - 1

    def by_stage(self, measure: str, values: Numbers) -> Numbers:
        """The means over the layers of each stage: [..., layer] -> [..., 3]."""
        return np.stack([values[..., self.stage(measure, number)].mean(axis=-1) for number in (1, 2, 3)], axis=-1)
