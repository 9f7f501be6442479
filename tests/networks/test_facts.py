"""What is said of our networks without building them is what they are."""

from __future__ import annotations

import pytest
import torch

from reluscope import build_network
from reluscope.networks import network_from_config
from reluscope.networks.facts import Layer, layers, num_weights
from reluscope.preactivations import LayerChoice, observe

NETWORKS = [
    *(
        f"{family}{depth}"
        for family in ("resnet", "convnet", "toynet", "pyramidnet", "fixup_resnet")
        for depth in (8, 20)
    ),
    {"name": "resnet14", "activation": "prelu", "widths": [3, 5, 8]},
    {"name": "convnet8", "widths": [9, 2, 5]},
    {"name": "fixup_resnet14", "widths": [4, 4, 9]},
]


@pytest.mark.parametrize("given", NETWORKS, ids=str)
def test_layers_and_weights_are_those_of_the_built_network(given) -> None:
    network = network_from_config(given)
    built = build_network(**network, in_channels=2)
    seen: list[tuple[str, int, int, int]] = []
    with torch.no_grad(), observe(built, lambda s, p: seen.append((s.name, *p.shape[1:])), LayerChoice()):
        built(torch.zeros(2, 2, 16, 12))
    assert [
        (layer.name, layer.channels, 16 >> layer.halvings, 12 >> layer.halvings) for layer in layers(network)
    ] == seen
    convolutions = [p.numel() for p in built.parameters() if p.ndim == 4]
    assert num_weights(network, 2) == sum(convolutions)


def test_nothing_is_known_of_an_imported_network() -> None:
    network = network_from_config("torchvision.models:resnet18")
    assert (layers(network), num_weights(network, 3)) == (None, 0)


def test_the_first_layers_of_a_resnet() -> None:
    assert layers(network_from_config("resnet8"))[:3] == [
        Layer("stage1.block0.activation1", 16, 0),
        Layer("stage1.block0.activation2", 16, 0),
        Layer("stage2.block0.activation1", 16, 0),
    ]
