"""Runs of checkpoint files in a config: their steps, shards and settings, and one clear line for each mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reluscope import paths
from reluscope.checkpoint_files import write_manifest
from reluscope.study import ConfigError, Study, counting_settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files of the steps 0, 10, 20 and 40, and images without labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    for step in (0, 10, 20, 40):
        (tmp_path / f"saved/net_{step}.pt").touch()
    np.save(tmp_path / "images.npy", np.zeros((30, 1, 8, 8), np.float32))
    return tmp_path


def config(counting: dict[str, Any] | None = None, figure: dict[str, Any] | None = None, **run: Any) -> dict[str, Any]:
    entry = {"network": "resnet8", "checkpoints": {"files": "saved"}, **run}
    figures = {"f": {"runs": ["mine"], "measures": ["entropy"], **figure}} if figure is not None else {}
    data = {"name": "arrays", "path": "images.npy"}
    return {"study": "s", "data": data, "counting": counting or {}, "runs": {"mine": entry}, "figures": figures}


@pytest.mark.usefixtures("folder")
def test_each_file_is_a_step_and_a_job_of_its_own() -> None:
    run = Study.from_config(config()).runs["mine"]
    assert not run.is_trained
    assert run.steps.tolist() == [0, 10, 20, 40]
    assert list(run.shards.values()) == [[0], [10], [20], [40]]
    settings = counting_settings(run, "00000020-00000020")
    assert settings["steps"] == [20]
    assert settings["checkpoints"]["network"]["name"] == "resnet"
    assert "training" not in settings


def test_a_file_more_leaves_the_others_jobs_and_settings_alone(folder: Path) -> None:
    before = Study.from_config(config()).runs["mine"]
    (folder / "saved/net_30.pt").touch()
    after = Study.from_config(config()).runs["mine"]
    assert set(after.shards) - set(before.shards) == {"00000030-00000030"}
    for shard in before.shards:
        assert counting_settings(after, shard) == counting_settings(before, shard)


def test_a_file_with_other_bytes_has_other_settings_whatever_its_time(folder: Path) -> None:
    file = folder / "saved/net_10.pt"
    before = Study.from_config(config()).runs["mine"]
    os.utime(file, ns=(5, 5))
    touched = Study.from_config(config()).runs["mine"]
    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))  # as one that is moved or copied from elsewhere
    after = Study.from_config(config()).runs["mine"]
    for shard in before.shards:
        assert counting_settings(touched, shard) == counting_settings(before, shard)
        same = counting_settings(after, shard) == counting_settings(before, shard)
        assert same == (shard != "00000010-00000010")


def test_jobs_see_the_files_that_the_manifest_lists(folder: Path) -> None:
    found = Study.from_config(config()).runs["mine"]
    with pytest.raises(ConfigError, match=r"manifest\.csv: expected the manifest of the run's files"):
        Study.from_config(config(), files_as_listed=True)
    write_manifest(found.spec.files, Path(paths.manifest("mine")))
    (folder / "saved/net_50.pt").touch()
    (folder / "saved/best.pt").touch()
    (folder / "saved/net_10.pt").unlink()
    listed = Study.from_config(config(), files_as_listed=True).runs["mine"]
    assert listed.spec == found.spec
    assert listed.steps.tolist() == [0, 10, 20, 40]


def test_another_field_gives_other_steps(folder: Path) -> None:
    for file in (folder / "saved").iterdir():
        file.unlink()
    for epoch in (1, 2):
        torch.save({"epoch": epoch, "global_step": 70 * epoch}, folder / f"saved/e{epoch}.pt")

    def steps(field: str) -> list[int]:
        run = Study.from_config(config(checkpoints={"files": "saved", "step": {"field": field}})).runs["mine"]
        write_manifest(run.spec.files, Path(paths.manifest("mine")))
        return run.steps.tolist()

    assert [steps("epoch"), steps("global_step"), steps("global_step")] == [[1, 2], [70, 140], [70, 140]]


@pytest.mark.usefixtures("folder")
def test_steps_are_chosen_among_the_files() -> None:
    run = Study.from_config(config(steps={"list": [10]})).runs["mine"]
    assert run.steps.tolist() == [0, 10, 40]  # the first and the last always
    longer = Study.from_config(config({"shard_length": 25})).runs["mine"]
    assert list(longer.shards.values()) == [[0, 10, 20], [40]]
    early = Study.from_config(config(figure={"steps": {"logarithmic": 1, "until": 5}})).figures["f"]
    assert early.steps["mine"].tolist() == [0]  # and not 10, the nearest to 1
    figure = Study.from_config(config(figure={"steps": {"list": [0, 20]}})).figures["f"]
    assert figure.steps["mine"].tolist() == [0, 20]


@pytest.mark.usefixtures("folder")
def test_epochs_are_known_where_the_steps_of_one_are() -> None:
    given = {"files": "saved", "steps_per_epoch": 20}
    timeline = Study.from_config(config(checkpoints=given)).runs["mine"].spec.timeline()
    assert timeline.epoch_of(np.array([0, 10, 40])).tolist() == [0.0, 0.5, 2.0]
    unknown = Study.from_config(config()).runs["mine"].spec.timeline()
    assert np.isnan(unknown.epoch_of(np.array([0, 10]))).all()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config(method="cyclic"), "runs.mine: method: does not go with checkpoints.files"),
        (config(seeds=[1]), "runs.mine: seeds: does not go with checkpoints.files"),
        (config(checkpoints={"files": "saved", "every": 2}), "checkpoints.every: does not go with files"),
        (config(checkpoints={"files": "saved", "step": "x(\\d+)"}), "have no step by"),
        (config(checkpoints={"files": "nowhere"}), "nowhere"),
        (config(checkpoints={"files": "~nobody-of-that-name/x"}), "checkpoints.files: '~nobody-of-that-name/x'"),
        (config(checkpoints={"step": "x(\\d+)"}), "checkpoints.step: goes with checkpoints.files only"),
        (config(steps={"list": [15]}), "steps: there is no file for step 15; the nearest is for step 10"),
        (config({"labels": True}), "expected labels for counting.labels"),
    ],
)
def test_a_mistake_is_one_clear_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Study.from_config(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
