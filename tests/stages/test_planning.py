"""The plan's sizes against closed forms, and its sums against what figures share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reluscope.data.spec import DataSpec
from reluscope.stages.planning import BYTES_A_POSITION, _size_of, cost_of, plan
from reluscope.study import Study

CIFAR10 = {"name": "cifar10"}
DATA = DataSpec.from_config(CIFAR10)


def study(**more: Any) -> Study:
    runs = {"a": {"network": "resnet20", "seeds": [0, 1]}, "b": {"network": "toynet8"}}
    figures = {
        "f": {"runs": ["a"], "measures": ["entropy"], "steps": {"list": [0, 8]}},
        "g": {"runs": ["a", "b"], "measures": ["entropy"], "steps": {"per_epoch": 1}, "seeds": [0]},
    }
    return Study.from_config({"study": "s", "data": CIFAR10, "runs": runs, "figures": figures, **more})


def test_sizes_of_resnet20_on_cifar10() -> None:
    """269,722 parameters; 7 layers of 32 x 32 positions, 6 of 16 x 16, 6 of 8 x 8; 40.6 million multiply-adds."""
    size = _size_of(json.dumps({"name": "resnet20"}), DATA)
    convolutions = 3 * 16 * 9 * 1024 + 6 * 16 * 16 * 9 * 1024
    convolutions += (16 * 32 + 5 * 32 * 32) * 9 * 256 + (32 * 64 + 5 * 64 * 64) * 9 * 64
    assert size.parameters == 269_722
    assert size.positions == 7 * 1024 + 6 * 256 + 6 * 64
    assert size.operations == 2 * (convolutions + 64 * 10)


def test_only_the_chosen_layers_take_room() -> None:
    layers = json.dumps({"include": ["stage2.*"]})
    size = _size_of(json.dumps({"name": "resnet20"}), DATA, layers)
    assert size.positions == 1024 + 5 * 256  # the first block's first activation stands before its stride
    assert size.operations == _size_of(json.dumps({"name": "resnet20"}), DATA).operations


def test_a_run_costs_what_its_settings_say() -> None:
    cost = cost_of(study().runs["a-seed0"], checkpoints=3)
    assert (cost.trainings, cost.steps, cost.checkpoints) == (1, 78_200, 3)
    assert cost.weights == pytest.approx(269_722 * 78_201 * 4 * 0.575)
    assert cost.training == pytest.approx(3 * 50_000 * 200 * 81.1e6, rel=0.01)
    assert cost.counting == pytest.approx(3 * 50_000 * 81.1e6, rel=0.01)


def test_files_of_an_imported_network_on_token_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained; the network is given whole numbers: 5 tokens an item, 6 features each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "token_network.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 6), nn.ReLU())\n"
    )
    np.savez(tmp_path / "tokens.npz", images=np.arange(35).reshape(7, 5) % 9)
    (tmp_path / "files").mkdir()
    for step in (0, 10):
        (tmp_path / "files" / f"step{step}.pt").touch()
    run = {"network": {"import": "token_network:build"}, "checkpoints": {"files": "files"}}
    data = {"name": "arrays", "path": "tokens.npz"}
    cost = cost_of(Study.from_config({"study": "s", "data": data, "runs": {"a": run}}).runs["a"], checkpoints=2)
    assert (cost.trainings, cost.steps, cost.checkpoints, cost.weights) == (0, 0, 2, 0)
    assert cost.counts == pytest.approx(2 * 7 * 5 * BYTES_A_POSITION)
    assert cost.counting == pytest.approx(2 * 7 * 5 * 2 * 6 * 6)


def test_a_sample_takes_its_share_of_the_disk() -> None:
    """Of an eighth of the keys each takes 3 bits more, because they are 8 times as far apart."""
    full, sampled = (cost_of(study(counting=given).runs["a-seed0"], 3) for given in ({}, {"sample": "1/8"}))
    assert full.counts / sampled.counts == pytest.approx(8 * 1.1 / (1.1 + 3 / 8))
    assert sampled.counting == full.counting


def test_what_figures_share_counts_once() -> None:
    printed = plan(study(), {"name": "a fast machine", "training": 1.0, "counting": 2.0})
    rows = {line.split("  ")[0].strip() or name: line for line in printed.splitlines() for name in [line.split()[0]]}
    trainings = {name: int(re.search(rf"{name} +([\d,]+)", printed)[1]) for name in ("f", "g", "once")}  # type: ignore[index]
    assert trainings == {"f": 2, "g": 2, "once": 3}
    checkpoints = {name: int(rows[name].split()[3].replace(",", "")) for name in ("f", "g")}
    assert checkpoints == {"f": 2 * 2, "g": 2 * 201}
    # seed 0 of a: 0, 8 and 201 epochs' ends; seed 1: 0, 8 and the last; b: the epochs' ends
    assert re.search(r"once +3 +234,600 +406 ", printed)
    assert "a fast machine" in printed
    # 200 epochs of two ResNet-20 and a ToyNet-8 at 1 TFLOP/s, three passes a step
    forward = [
        2 * _size_of(json.dumps({"name": "resnet20"}), DATA).operations,
        _size_of(json.dumps({"name": "toynet8"}), DATA).operations,
    ]
    assert f"{3 * 50_000 * 200 * sum(forward) / 1e12 / 3600:,.1f} h" in printed
