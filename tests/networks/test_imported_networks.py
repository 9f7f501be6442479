"""Networks by import path: torchvision's and one's own, from Python, from a config, and in a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import reluscope
from reluscope.checkpoints import open_weights
from reluscope.data.spec import DataSpec
from reluscope.networks import network_from_config
from reluscope.networks.imported import require_logits
from reluscope.training.loop import train
from reluscope.training.methods import Stepwise
from reluscope.training.spec import TrainingSpec

OWN = """
import torch
from torch import nn

def build(width, classes):
    features = [nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(36 * width, classes))

class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.relu = nn.ReLU()

    def forward(self, images):
        logits = self.linear(self.relu(images.flatten(1)))
        return (logits, logits) if self.training else logits

def number():
    return 7
"""


@pytest.fixture(autouse=True)
def _own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_networks.py").write_text(OWN)


def spec(path: str, **arguments: Any) -> TrainingSpec:
    network = network_from_config({"import": path, "arguments": arguments})
    data = DataSpec.from_config({"name": "digits", "images": 60})
    return TrainingSpec(network, data, Stepwise(epochs=1, batch_size=30), seed=3)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_torchvisions_networks_are_built_and_counted(name: str) -> None:
    network = reluscope.build_network(f"torchvision.models:{name}", arguments={"num_classes": 7})
    counts = reluscope.count_patterns(network, torch.rand(2, 3, 32, 32))
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7)
    # resnet18: 1 + 2 a block; vgg11_bn: 8 convolutions and 2 linear layers
    assert len(counts) == {"resnet18": 17, "vgg11_bn": 10}[name]


def test_an_own_network_is_trained_from_its_seed_and_loads_back(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "two"):
        train(spec("own_networks:build", width=4, classes=10), tmp_path / folder, tmp_path / f"{folder}.zarr")
        made.append(open_weights(tmp_path / f"{folder}.zarr"))
    networks = [reluscope.build_network("own_networks:build", arguments={"width": 4, "classes": 10}) for _ in made]
    states = []
    for step in (0, 2):
        for store, network in zip(made, networks, strict=True):
            store.load_into(network, step)
        one, two = (network.state_dict() for network in networks)
        assert all(torch.equal(one[name], two[name]) for name in one)
        states.append({name: tensor.clone() for name, tensor in one.items()})
    assert not torch.equal(states[0]["0.weight"], states[1]["0.weight"])
    assert made[0].attributes["network"] == {"import": "own_networks:build", "arguments": {"width": 4, "classes": 10}}


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ("own_networks:build", {"width": 4, "classes": 9}, r"logits \[2, 10\] for the 10 classes .* got \[2, 9\]"),
        ("own_networks:build", {"width": 4, "classes": 11}, r"got \[2, 11\]; give the number of classes"),
        ("own_networks:TwoOutputs", {}, "in training mode the network returns tuple"),
        ("torchvision.models:resnet18", {}, r"images \[2, 1, 8, 8\] raised RuntimeError: Given groups=1"),
        ("own_networks:number", {}, "expected it to return a torch.nn.Module, but got int"),
        ("own_networks:bild", {}, "own_networks has no 'bild'; did you mean 'build'"),
        ("own_networks:build", {"widht": 4}, r"build\(widht=4\) raised TypeError: "),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_any_step(tmp_path: Path, path, arguments, message) -> None:
    with pytest.raises(ValueError, match=message) as error:
        train(spec(path, **arguments), tmp_path / "work", tmp_path / "weights.zarr")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_the_trial_of_a_network_leaves_it_and_the_generator_as_they_were() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 10)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.rand(2, 1, 8, 8)
    state = torch.get_rng_state()
    require_logits("x:y", network, images, 10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_network_that_cannot_be_copied_is_tried_too() -> None:
    network = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 10)))
    network(torch.rand(2, 1, 8, 8))  # from here on its weight is no leaf
    require_logits("x:y", network, torch.rand(2, 1, 8, 8), 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 1}, "in_channels: not for an imported network"),
        ({"depth": 20}, "depth: not for an imported network"),
    ],
)
def test_options_of_our_networks_do_not_go_with_an_import(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        reluscope.build_network("own_networks:build", **options)
    with pytest.raises(ValueError, match="arguments: only for an imported network"):
        reluscope.build_network("resnet20", arguments={})


def test_two_ways_to_name_an_import_are_one_setting() -> None:
    expected = {"import": "own_networks:build", "arguments": {}}
    assert (
        network_from_config("own_networks:build") == network_from_config({"import": "own_networks:build"}) == expected
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"import": "torchvision.models.resnet18"}, "import: expected package.module:name"),
        ("no_such_package.models:net", "there is no package or module 'no_such_package'"),
        ({"import": "own_networks:build", "depth": 20}, "network: depth does not go with import"),
        ({"name": "resnet20", "arguments": {}}, "network: arguments go with import only"),
        ({"depth": 20}, "network: missing key 'name'"),
    ],
)
def test_what_a_config_can_tell_is_told_without_importing(network, message) -> None:
    with pytest.raises(ValueError, match=message):
        network_from_config(network)
