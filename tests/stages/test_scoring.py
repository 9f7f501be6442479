"""The scorecard of a study, from its stores to the table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reluscope import paths
from reluscope.series import open_series
from reluscope.stages.counting import count_shard
from reluscope.stages.measuring import measure_run
from reluscope.stages.scoring import result_of, score_study
from reluscope.stages.training import train_run
from reluscope.stores import StoreError
from reluscope.study import Study

CONFIG: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "images": 70, "test_images": 20},
    "counting": {"batch_size": 70, "steps": {"every": 1}},
    "methods": {"stepwise": {"epochs": 1, "batch_size": 10}},
    "runs": {"a": {"network": "resnet20"}, "b": {"network": "convnet20"}},
    "scorecard": True,
}


@pytest.fixture(scope="module", params=[{}, {"sample": "1/4"}], ids=["all patterns", "a sample"])
def study(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Study]:
    """Trained, counted and measured; the working directory stays there for this file's tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("study")
        patch.chdir(folder)
        made = Study.from_config({**CONFIG, "counting": {**CONFIG["counting"], **request.param}})
        for run in made.runs.values():
            train_run(run, paths.weights(run.name), study="tiny", threads=1)
            stores = [paths.counts(run.name, shard) for shard in run.shards]
            count_shard(run, next(iter(run.shards)), paths.weights(run.name), stores[0], threads=1)
            for name, spec in made.measures_of(run.name).items():
                measure_run({paths.measure(run.name, name): spec}, stores)
        yield made


def test_the_claims_say_which_measures_they_want(study: Study) -> None:
    wanted = study.measures_of("a-seed0")
    assert "relative_entropy" in wanted
    assert "occupancy_published" not in wanted  # a claim about CIFAR-10 only


def test_a_result_is_what_the_stores_hold(study: Study) -> None:
    run = study.runs["a-seed0"]
    result = result_of(run, study.claimed_measures(run))
    assert (result.num_steps, result.steps_per_epoch, result.seed) == (7, 7, 0)
    assert result.num_positions[:8] == [70 * 64] * 7 + [70 * 16]
    assert result.test_accuracy is not None
    assert 0 <= result.test_accuracy <= 1
    assert result.learning_rate is not None
    assert [round(result.learning_rate[step], 9) for step in (1, 4, 5, 7)] == [0.1, 0.1, 0.01, 0.001]


def test_the_scorecard_is_written_with_the_studys_numbers(study: Study, tmp_path: Path) -> None:
    score_study(study, str(tmp_path / "s.md"), str(tmp_path / "s.csv"))
    with (tmp_path / "s.csv").open() as file:
        lines = {line["number"]: line for line in csv.DictReader(file)}
    assert lines["1"]["agrees"] == "not in this study"  # needs 200 epochs of CIFAR-10
    decided = [line for line in lines.values() if line["agrees"] != "not in this study"]
    assert decided
    assert all(line["ours"] and "(digits, 1 epochs; seed 0" in line["where"] for line in decided)
    entropy = open_series(paths.measure("a-seed0", "relative_entropy")).values
    assert np.isfinite(entropy).all()
    page = (tmp_path / "s.md").read_text()
    assert page.startswith("# Scorecard of the paper's claims")
    assert "- Data: digits, 70 training images" in page
    is_sampled = study.runs["a-seed0"].one_in > 1
    assert ("- Comparisons of steps are estimates from a sample of the patterns: 1/4" in page) == is_sampled


def test_runs_of_other_images_are_not_scored_together(study: Study) -> None:
    file = Path(paths.counts("b-seed0", next(iter(study.runs["b-seed0"].shards)))) / "zarr.json"
    found = file.read_text()
    file.write_text(re.sub(r'"data_digest": "[0-9a-f]{16}"', '"data_digest": "0"', found))
    try:
        with pytest.raises(
            StoreError, match=r"b-seed0/counts/.* was made of other training images, .* than .*a-seed0/w"
        ):
            score_study(study, "other.md", "other.csv")
    finally:
        file.write_text(found)
    assert not Path("other.md").exists()
