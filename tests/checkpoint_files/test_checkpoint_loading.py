"""Checkpoints as people save them come into the network; others are refused in one line that says why."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reluscope.checkpoint_files.finding import CheckpointFile
from reluscope.checkpoint_files.loading import CheckpointFiles, load_state, step_field
from reluscope.checkpoint_files.manifest import describe


def network(seed: int = 0, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    made(torch.rand(4, 1, 5, 5))
    return made


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "nested": lambda state: {"model": {"state_dict": state}},
    "DataParallel": lambda state: prefixed(state, "module."),
    "compiled, parallel": lambda state: {"model_state_dict": prefixed(state, "module._orig_mod.")},
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "global_step": 8},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("is_zip", [True, False])
def test_common_wrappings_load_bit_for_bit(wrap, is_zip: bool, tmp_path: Path) -> None:
    state, target = network(1).state_dict(), network(2)
    torch.save(wrap(dict(state)), tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    load_state(str(tmp_path / "a.pt"), target)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in state.items())


def test_safetensors_load(tmp_path: Path) -> None:
    state, target = network(1).state_dict(), network(2)
    save_file(prefixed(state, "module."), tmp_path / "a.safetensors", metadata={"global_step": "12"})
    load_state(str(tmp_path / "a.safetensors"), target)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in state.items())
    assert step_field(str(tmp_path / "a.safetensors"), "global_step") == 12


def test_a_prefix_of_the_network_itself_stays(tmp_path: Path) -> None:
    inside = nn.ModuleDict({"model": network(1)})
    torch.save(inside.state_dict(), tmp_path / "a.pt")
    target = nn.ModuleDict({"model": network(2)})
    load_state(str(tmp_path / "a.pt"), target)
    assert torch.equal(target["model"][0].weight, inside["model"][0].weight)


def test_half_precision_becomes_the_networks(tmp_path: Path) -> None:
    state, target = network(1).state_dict(), network(2)
    torch.save({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, tmp_path / "a.pt")
    load_state(str(tmp_path / "a.pt"), target)
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, state["0.weight"].half().float())


def test_running_statistics_may_be_missing_and_that_is_said(tmp_path: Path) -> None:
    state, target = network(1).state_dict(), network(2)
    torch.save({name: t for name, t in state.items() if "running" not in name and "num" not in name}, tmp_path / "a.pt")
    notes = load_state(str(tmp_path / "a.pt"), target)
    assert torch.equal(target[0].weight, state["0.weight"])
    assert notes == ["without 3 running statistics of batch-norm, which counting does not use"]


def test_all_that_does_not_fit_is_listed_with_shapes_and_nothing_is_loaded(tmp_path: Path) -> None:
    state, target = dict(network(1, width=4).state_dict()), network(2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state["head.weight"] = state.pop("4.bias")
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"does not fit the network: missing 4\.bias") as error:
        load_state(str(tmp_path / "a.pt"), target)
    message = str(error.value)
    assert "missing 4.bias [2]; unexpected head.weight [2]; 0.weight [4, 1, 3, 3] instead of [3, 1, 3, 3]" in message
    assert message.endswith("; and 1 more")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"args": argparse.Namespace(lr=1)},
            r"with weights_only=True, because it holds a argparse\.Namespace; save its we",
        ),
        (
            {"epoch": 3, "loss": 0.5},
            "expected parameters by name, alone or under state_dict, .*, but it holds epoch, loss",
        ),
        ([1, 2], "but it holds a list"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as error:
        load_state(str(tmp_path / "a.pt"), network())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_damage_is_one_line(name: str, tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / name) if name.endswith("s") else torch.save(state, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    with pytest.raises(ValueError, match=name) as error:
        load_state(str(tmp_path / name), network())
    assert "\n" not in str(error.value)


def test_a_step_is_read_from_a_field(tmp_path: Path) -> None:
    torch.save({"model": network().state_dict(), "global_step": 70, "t": torch.tensor(5), "lr": 0.1}, tmp_path / "a.pt")
    file = str(tmp_path / "a.pt")
    assert (step_field(file, "global_step"), step_field(file, "t")) == (70, 5)
    for key in ("lr", "step"):
        with pytest.raises(ValueError, match=f"no whole number under '{key}', but holds model, global_step, t, lr"):
            step_field(file, key)


def test_a_file_that_changed_since_the_manifest_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "a.pt")
    torch.save(network(1).state_dict(), file)
    files = CheckpointFiles(describe([CheckpointFile(5, file)], "x", {}))
    files.load_into(network(2), 5)
    torch.save(network(3).state_dict(), file)
    with pytest.raises(ValueError, match=r"a\.pt: changed since its manifest was written; start again"):
        files.load_into(network(2), 5)
