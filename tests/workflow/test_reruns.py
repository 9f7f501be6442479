"""What a change makes again: exactly what it touches, as planned and as done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from clone import Clone

RUNS = ("a-seed0", "b-seed0", "b-seed1")
MEASURES = ("distinct_patterns", "entropy", "weighted_jaccard_to_final")
SHARDS = ("00000000-00000002", "00000003-00000005")
FIGURE = {"figures/f.png", "figures/f.pdf"}
SCORECARD = {"scorecard.md", "scorecard.csv"}


def weights(*runs: str) -> set[str]:
    return {f"runs/{run}/weights.zarr" for run in runs}


def counts(*runs: str, shards: Iterable[str] = SHARDS) -> set[str]:
    return {f"runs/{run}/counts/{shard}.zarr" for run in runs for shard in shards}


def measures(*runs: str, names: Iterable[str] = MEASURES) -> set[str]:
    return {f"runs/{run}/measures/{name}.zarr" for run in runs for name in names}


def wholly(*runs: str) -> set[str]:
    """Everything of these runs, and what all runs are in."""
    return weights(*runs) | from_counting(*runs)


def from_counting(*runs: str) -> set[str]:
    return counts(*runs) | measures(*runs) | FIGURE | SCORECARD


@dataclass(frozen=True)
class Change:
    """What is changed, and what that makes again."""

    do: Callable[[Clone], object]
    makes: set[str]


def edit(file: str, old: str, new: str) -> Callable[[Clone], None]:
    return lambda clone: clone.edit(file, old, new)


def edit_source(file: str) -> Callable[[Clone], None]:
    return edit(f"src/reluscope/{file}", '"""', '"""Edited. ')


def configure(old: str, new: str) -> Callable[[Clone], None]:
    return edit("config.yaml", old, new)


def lose_memory(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".snakemake")


def check_out_anew(clone: Clone) -> None:
    """A fresh clone over old results: every file of it is newer than they are, and Snakemake remembers nothing."""
    lose_memory(clone)
    for part in ("Snakefile", "config.yaml", "workflow", "profiles", "src"):
        for file in [clone.folder / part, *(clone.folder / part).rglob("*")]:
            os.utime(file)


CHANGES = {
    "a measure": Change(
        edit("src/reluscope/measures/cardinality.py", "float(counts", "1.0 * (counts"),
        measures(*RUNS, names=["distinct_patterns"]) | FIGURE,
    ),
    "a measure that no figure shows": Change(
        edit("src/reluscope/measures/entropy.py", "return counts.entropy", "return 2 * counts.entropy"),
        measures(*RUNS, names=["entropy"]),
    ),
    "another measure of the same file": Change(
        edit("src/reluscope/measures/entropy.py", "counts.largest_count /", "2 * counts.largest_count /"), set()
    ),
    "a docstring of a measure": Change(edit_source("measures/entropy.py"), set()),
    "a helper of one measure": Change(
        edit("src/reluscope/measures/_matching.py", ">= MERGED_FROM", "> MERGED_FROM"),
        measures(*RUNS, names=["weighted_jaccard_to_final"]) | FIGURE,
    ),
    "a helper of all measures": Change(
        edit("src/reluscope/patterns.py", "return len(self.counts)", "return 0 + len(self.counts)"),
        measures(*RUNS) | FIGURE,
    ),
    "a figure": Change(edit_source("figures/heatmaps.py"), FIGURE),
    "a claim": Change(edit_source("scorecard/entropy.py"), SCORECARD),
    "a figure's look": Change(configure("Tiny", "Another title"), FIGURE),
    "one more checkpoint": Change(
        configure("{per_epoch: 1}", "[{per_epoch: 1}, {list: [3]}]"),
        counts(*RUNS, shards=SHARDS[1:]) | measures(*RUNS) | FIGURE,
    ),
    "one more seed": Change(configure("seeds: [0, 1]", "seeds: [0, 1, 2]"), wholly("b-seed2")),
    "one more run, not drawn": Change(
        configure("\nmeasures:", "\n  c: {network: resnet8}\nmeasures:"),
        weights("c-seed0") | counts("c-seed0") | measures("c-seed0", names=["entropy"]) | SCORECARD,
    ),
    "one more measure": Change(
        configure("entropy: {}", "entropy: {}\n  appeared: {}"), measures(*RUNS, names=["appeared"])
    ),
    "NaN kept": Change(configure("scorecard: true", "scorecard: true\nkeep_nan: true"), measures(*RUNS) | FIGURE),
    "batch size of the counting": Change(
        configure("batch_size: 50, steps", "batch_size: 20, steps"), from_counting(*RUNS)
    ),
    "length of the counting jobs": Change(
        configure("shard_length: 3", "shard_length: 5"),
        counts(*RUNS, shards=["00000000-00000004"]) | measures(*RUNS) | FIGURE | SCORECARD,
    ),
    "images": Change(configure("images: 100", "images: 90"), wholly(*RUNS)),
    "data of one run": Change(
        configure("{network: resnet8}", "{network: resnet8, data: {name: digits, images: 90}}"), wholly("a-seed0")
    ),
    "a network": Change(configure("{network: resnet8}", "{network: convnet8}"), wholly("a-seed0")),
    "a method": Change(configure("epochs: 2", "epochs: 2, decay: 0.5"), wholly(*RUNS)),
    "a comment": Change(configure("\nruns:", "\n# a comment\nruns:"), set()),
    "the README": Change(edit("README.md", "# reluscope", "# reluscope, edited"), set()),
    "a test": Change(edit("tests/test_schedule.py", '"""', '"""Edited. '), set()),
    "the training code": Change(edit_source("training/loop.py"), set()),
    "the counting code": Change(edit_source("counting/count.py"), set()),
    "a rule's script": Change(edit("workflow/scripts/train.py", '"""', '"""Edited. '), set()),
    "Snakemake's memory lost": Change(lose_memory, set()),
    "a fresh clone over old results": Change(check_out_anew, FIGURE | SCORECARD),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_plans_what_it_touches(clone: Clone, change: Change) -> None:
    change.do(clone)
    assert clone.planned() == change.makes


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_again_what_it_touches(clone: Clone, change: Change) -> None:
    """And is done with it then."""
    change.do(clone)
    assert clone.made() == change.makes
    assert clone.planned() == set()


def test_an_edited_measure_is_made_again(clone: Clone) -> None:
    """One row of the slow test above, for the fast suite; its jobs compute it, and no other measure by the way."""
    change = CHANGES["a measure that no figure shows"]
    change.do(clone)
    assert clone.made() == change.makes
    for run in RUNS:
        log = (clone.folder / f"results/logs/measure/{run}/entropy.log").read_text()
        assert "layer 7 of 7: entropy\n0 of 7 layers were measured before, or by other jobs\n" in log


@pytest.mark.slow
def test_counting_can_be_forced_and_says_how_far_it_is(clone: Clone) -> None:
    clone.edit("src/reluscope/stages/progress.py", "SECONDS_BETWEEN_LINES = 60.0", "SECONDS_BETWEEN_LINES = 0.5")
    before = clone.outputs()
    printed = clone.run("--forcerun", "count")
    assert clone.changed(before) == from_counting(*RUNS)
    lines = [line for line in printed.splitlines() if line.startswith("counted ")]
    assert lines[0].startswith("counted 0 of 9 checkpoints, measured 0 of 9")
    assert len(lines) > 2
