"""What passes the check runs to the end; what does not is one line, at once. Configs are changed at random."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import fuzzing
import pytest

from reluscope.study import Study

CHANGED = 1_500
RUN = 16  # of those that are accepted: a few seconds each


@pytest.fixture(scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    fuzzing.prepare(folder)
    return folder


@pytest.fixture(autouse=True)
def _there(_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_data)


@pytest.mark.parametrize("config", fuzzing.CONFIGS, ids=lambda config: config["study"])
def test_the_configs_that_are_changed_run_to_the_end(config) -> None:
    study = fuzzing.checked(config)
    assert isinstance(study, Study), study
    assert fuzzing.is_small(study)
    assert fuzzing.run_to_the_end(study) == ""
    assert list(Path.cwd().glob("results")) == []


@pytest.mark.parametrize("first", range(0, CHANGED, CHANGED // 10))
def test_a_changed_config_is_one_line_or_accepted(first: int) -> None:
    for seed in range(first, first + CHANGED // 10):
        try:
            fuzzing.checked(fuzzing.mutated(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def accepted() -> Iterator[int]:
    """Seeds of configs that are accepted, small, and unlike each other."""
    seen = {repr(fuzzing.checked(config)) for config in fuzzing.CONFIGS}
    for seed in itertools.count():
        study = fuzzing.checked(fuzzing.mutated(seed))
        if isinstance(study, Study) and fuzzing.is_small(study) and repr(study) not in seen:
            seen.add(repr(study))
            yield seed


@pytest.mark.parametrize("part", range(4))
def test_what_is_accepted_runs_to_the_end(part: int) -> None:
    for seed in itertools.islice(accepted(), part, RUN, 4):
        study = fuzzing.checked(fuzzing.mutated(seed))
        assert isinstance(study, Study)
        try:
            fuzzing.run_to_the_end(study)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
