"""A run of files through the real workflow: nothing is trained, and a file that is added is counted alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from clone import Clone

import reluscope
from reluscope.data import load
from reluscope.data.spec import DataSpec

NETWORK = """
from torch import nn

def small(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * width, 10),
    )
"""

CONFIG = """
study: own
data: {name: digits, images: 100}
counting: {batch_size: 32, steps: {per_epoch: 1}}
runs:
  mine:
    title: Mine
    network: {import: "own_network:small", arguments: {width: 6}}
    checkpoints: {files: saved, step: "step_(\\\\d+)"}
scorecard: true
figures:
  f: {runs: [mine], measures: [entropy, weighted_jaccard_to_initial]}
"""


def network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.syspath_prepend(folder)
    return reluscope.build_network("own_network:small", arguments={"width": 6})


def save(folder: Path, step: int) -> None:
    torch.manual_seed(step)
    state = reluscope.build_network("own_network:small", arguments={"width": 6}).state_dict()
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}}, folder / f"saved/step_{step}.pt")


@pytest.mark.slow
def test_files_are_counted_drawn_and_added_to(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(repository, tmp_path)
    clone.configure(CONFIG)
    (tmp_path / "own_network.py").write_text(NETWORK)
    (tmp_path / "saved").mkdir()
    ours = network(tmp_path, monkeypatch)
    for step in (10, 20, 30):
        save(tmp_path, step)
    printed = clone.run()
    assert "made results/figures/f.png" in printed
    run = tmp_path / "results/runs/mine"
    assert not (run / "weights.zarr").exists()
    assert clone.planned() == set()

    images = load(DataSpec.from_config({"name": "digits", "images": 100})).train
    for step in (10, 20, 30):
        state = torch.load(tmp_path / f"saved/step_{step}.pt", weights_only=True)["state_dict"]
        ours.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
        expected = reluscope.count_patterns(ours.to(memory_format=torch.channels_last), images, 32, engine="numpy")
        counted = reluscope.open_counts(run / f"counts/{step:08d}-{step:08d}.zarr")
        for layer, counts in enumerate(expected):
            np.testing.assert_array_equal(counted.at(0, layer).keys, counts.keys)
            np.testing.assert_array_equal(counted.at(0, layer).counts, counts.counts)

    save(tmp_path, 50)
    before = clone.outputs()
    printed = clone.run()
    assert "mine: no file for step 40" in printed
    changed = clone.changed(before)
    assert {name for name in changed if "/counts/" in name} == {"runs/mine/counts/00000050-00000050.zarr"}
    assert "runs/mine/measures/entropy.zarr" in changed
    assert "figures/f.png" in changed
    assert reluscope.open_counts(*run.glob("counts/*.zarr")).steps.tolist() == [10, 20, 30, 50]

    save(tmp_path, 120)
    os.utime(tmp_path / "saved/step_120.pt", ns=(1, 1))  # older than what was counted
    (tmp_path / "saved/step_120.pt").replace(tmp_path / "saved/step_20.pt")  # other weights under an old name
    before = clone.outputs()
    clone.run()
    changed = clone.changed(before)
    assert {name for name in changed if "/counts/" in name} == {"runs/mine/counts/00000020-00000020.zarr"}

    (tmp_path / "saved/step_10.pt").touch()
    listed = (run / "manifest.csv").read_bytes()
    assert clone.planned() == set()
    assert (run / "manifest.csv").read_bytes() == listed  # a dry run writes nothing

    (tmp_path / "saved/best.pt").write_bytes(b"")
    stopped = clone.snakemake()
    assert stopped.returncode != 0
    assert "config.yaml: runs.mine: checkpoints.step: saved/best.pt have no step" in stopped.stdout
    assert "Traceback" not in stopped.stdout
