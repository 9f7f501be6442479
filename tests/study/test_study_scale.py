"""Studies of many files or many runs are read in time that grows with their number, not with its square."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reluscope import measures, paths
from reluscope.checkpoint_files import findings, read_manifest, write_manifest
from reluscope.study import Study, check_results, counting_settings, measuring_settings

FILES, RUNS = 20_000, 1_000


def test_many_files_before_any_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the workflow does with each file before the first job; ten times as many take ten times as long."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    for step in range(FILES):
        (tmp_path / f"saved/step_{step}.pt").write_bytes(b"%d" % step)
    np.save("images.npy", np.zeros((3, 1, 8, 8), np.float32))
    config = {
        "study": "s",
        "data": {"name": "arrays", "path": "images.npy"},
        "runs": {"mine": {"network": "resnet8", "checkpoints": {"files": "saved"}}},
        "measures": {"entropy": {}},
    }
    begun = time.process_time()
    study = Study.from_config(config)
    check_results(study)
    run = study.runs["mine"]
    assert list(findings(run.spec.files)) == []
    files = [entry for shard in run.shards for entry in run.spec.files_at(run.shards[shard])]
    settings = [counting_settings(run, shard) for shard in run.shards]
    write_manifest(run.spec.files, Path(paths.manifest("mine")))
    listed = Study.from_config(config, files_as_listed=True).runs["mine"]
    taken = time.process_time() - begun
    assert [entry.step for entry in files] == list(range(FILES))
    assert [one["sha256"] for one in settings] == [[entry.sha256] for entry in files]
    assert len({one["sha256"][0] for one in settings}) == FILES
    assert listed.spec.files == run.spec.files
    assert len(read_manifest(paths.manifest("mine"))) == FILES
    assert taken < 20  # of a processor; 2 s on 2 cores of an AMD EPYC, where the square took 10 minutes


def test_a_measure_of_many_runs_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"r{i}" for i in range(RUNS)]
    config = {
        "study": "s",
        "data": {"name": "digits"},
        "runs": {name: {"network": "resnet8"} for name in names},
        "measures": {"entropy": {}},
        "figures": {"f": {"runs": names, "measures": ["weighted_jaccard_to_previous"], "steps": {"per_epoch": 2}}},
    }
    looked: list[str] = []
    for name in ("needs", "code", "find", "check_labels"):
        monkeypatch.setattr(measures, name, _recorded(getattr(measures, name), looked))
    study = Study.from_config(config)
    check_results(study)
    known: dict[str, dict] = {}
    settings = [measuring_settings(m, known) for run in study.runs for m in study.measures_of(run).values()]
    assert len(settings) == 2 * RUNS
    assert settings[:2] == [measuring_settings(m) for m in study.measures_of("r0-seed0").values()]
    assert len(looked) < 40


def _recorded(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    return lambda *arguments: calls.append(arguments[0]) or function(*arguments)
