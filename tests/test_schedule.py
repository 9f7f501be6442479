"""Step and epoch arithmetic against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluscope.schedule import (
    SavedSteps,
    Timeline,
    default_shard_length,
    select_steps,
    shard_length_for,
    shard_name,
    shards,
    with_ends,
)

CIFAR = Timeline(num_images=50_000, batch_size=128, epochs=200)
DIGITS = Timeline(num_images=1_500, batch_size=128, epochs=3)  # 12 steps an epoch


def select(selection, timeline=DIGITS, every=1) -> list[int]:
    return select_steps(selection, timeline, every).tolist()


def test_the_papers_training_has_78_200_steps() -> None:
    assert (CIFAR.steps_per_epoch, CIFAR.num_steps) == (391, 78_200)


def test_epochs_are_fractions_of_full_passes() -> None:
    assert DIGITS.epoch_of(np.array([0, 6, 12, 36])).tolist() == [0.0, 0.5, 1.0, 3.0]


def test_dumped_steps_always_hold_the_ends() -> None:
    assert DIGITS.dumped(10).tolist() == [0, 10, 20, 30, 36]
    assert DIGITS.dumped(1).tolist() == list(range(37))
    assert DIGITS.dumped(100).tolist() == [0, 36]


def test_epoch_ends() -> None:
    assert DIGITS.epoch_ends.tolist() == [12, 24, 36]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"every": 12}, [0, 12, 24, 36]),
        ({"every": 25}, [0, 25, 36]),
        ({"per_epoch": 1}, [0, 12, 24, 36]),
        ({"per_epoch": 2}, [0, 6, 12, 18, 24, 30, 36]),
        ({"list": [5, 1, 5]}, [1, 5]),
        ({"list": []}, []),
        ({"shares": [0.5, 1.0, 0.01]}, [0, 18, 36]),
        ({"logarithmic": 1}, [0, 1, 10, 36]),
        ({"every": 2, "until": 5}, [0, 2, 4]),
        ({"per_epoch": 2, "until": 13}, [0, 6, 12]),
        ([{"per_epoch": 1}, {"every": 1, "until": 2}], [0, 1, 2, 12, 24, 36]),
    ],
)
def test_selections(selection, expected) -> None:
    assert select(selection) == expected


def test_ends_are_added() -> None:
    assert with_ends([np.array([5]), np.array([3, 5])], DIGITS).tolist() == [0, 3, 5, 36]


def test_half_epochs_of_an_odd_number_of_steps_round_to_even() -> None:
    assert select({"per_epoch": 2}, Timeline(50_000, 128, 2)) == [0, 196, 391, 586, 782]


def test_shares_take_the_dumped_step_at_or_before() -> None:
    assert select({"shares": [0.5, 0.99]}, every=5) == [15, 35]
    assert select({"shares": [0.5]}, Timeline(7, 1, 1)) == [3]


def test_per_epoch_takes_the_nearest_dumped_step() -> None:
    assert select({"per_epoch": 1}, every=10) == [0, 10, 20, 36]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"list": [37]}, "step 37 is beyond the last step, 36"),
        ({"list": [-1]}, "whole number of at least 0, got -1"),
        ({"shares": [1.5]}, r"fractions of the training, 0 to 1, got \[1.5\]"),
        ({"list": [1], "until": 3}, "until does not go with list"),
        ({"list": 3}, "expected a list of steps, got 3"),
        ({"every": 1, "until": 99}, "step 99 is beyond the last step, 36"),
        ({"evry": 1}, r"steps: unknown key 'evry'; did you mean 'every'\? allowed are .*, shares, until$"),
        ({"every": 1, "list": [1]}, "one of every, per_epoch, list, logarithmic, shares, got every and list$"),
        ({"until": 3}, "got none$"),
        ({}, "got none"),
        ({"every": True}, "got True"),
        ([], "expected at least one selection, got none"),
        ({"list": [10**22]}, r"steps\.list: expected a whole number of at most 4611686018427387904, got a larger one"),
        ({"list": [10**400]}, "got a larger one"),
        ({"every": 10**400}, "got a larger one"),
        ({"logarithmic": 2_147_483_648}, r"steps\.logarithmic: expected a whole number of at most 10000, got a larger"),
    ],
)
def test_refused_selections(selection, message) -> None:
    with pytest.raises(ValueError, match=message):
        select(selection)


@pytest.mark.parametrize("many", [12, 13, 1_000, 2_147_483_648])
def test_more_an_epoch_than_it_has_steps_are_all_steps(many: int) -> None:
    assert select({"per_epoch": many}) == list(range(37))
    assert select({"per_epoch": many, "until": 5}) == list(range(6))


def test_more_moments_of_files_than_can_be_looked_at_are_refused() -> None:
    """Names that hold a date are read as steps."""
    files = SavedSteps((20_261_127_093_011, 20_261_127_103_011), steps_per_epoch=100)
    with pytest.raises(ValueError, match=r"^steps\.per_epoch: 1 of each of 202,611,271,031 epochs are too many"):
        select({"per_epoch": 1}, files)


@pytest.mark.parametrize(
    ("timeline", "every", "message"),
    [
        (Timeline(100, 50, 2_147_483_648), 1, "epochs: 2,147,483,648 of 2 steps each make 4,294,967,296, expected at"),
        (Timeline(100, 50, 1_000_000), 1, r"checkpoints\.every: 1 dumps 2,000,000 steps, expected at most 1,000,000"),
    ],
)
def test_trainings_without_end_are_refused(timeline: Timeline, every: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        timeline.require_feasible(every)
    Timeline(100, 50, 1_000_000).require_feasible(2)


def test_a_listed_step_must_be_dumped() -> None:
    with pytest.raises(ValueError, match=r"step 8 is not dumped \(the nearest dumped step is 10\)"):
        select({"list": [8]}, every=10)


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(0, 5000), st.integers(1, 700))
def test_adding_a_step_never_renames_another_shard(steps, more, length) -> None:
    before = shards(np.array(sorted(steps)), length)
    after = shards(np.array(sorted(steps | {more})), length)
    assert set(before) <= set(after)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {shard_name(more, length)}
    assert sorted(s for part in after.values() for s in part) == sorted(steps | {more})


def test_shard_names_are_ranges() -> None:
    assert shard_name(0, 1000) == "00000000-00000999"
    assert shard_name(78_200, 1000) == "00078000-00078999"


@pytest.mark.parametrize("epochs", [1, 2, 3, 50, 199, 200])
def test_a_long_training_is_counted_in_four_jobs(epochs: int) -> None:
    timeline = Timeline(50_000, 128, epochs)
    length = default_shard_length(timeline)
    jobs = shards(select_steps({"per_epoch": 1}, timeline), length)
    assert len(jobs) == (4 if timeline.num_steps >= 4_000 else timeline.num_steps // 1_000 + 1)
    assert max(map(len, jobs.values())) - min(map(len, jobs.values())) <= 2


@pytest.mark.parametrize(
    ("steps", "jobs", "length"),
    [
        (range(100), 100, 1),
        (range(101), 100, 2),
        (range(0, 5_000_000, 500), 1_000, 5_000),
        (range(100_000), 5_000, 20),
        ([7], 1, 1),
        ([0, 10**15], 1, 2 * 10**15),
    ],
)
def test_the_length_of_shards_for_so_many_jobs(steps, jobs: int, length: int) -> None:
    found = shard_length_for(np.array(steps), jobs)
    assert found == length
    assert len(shards(np.array(steps), found)) <= jobs
