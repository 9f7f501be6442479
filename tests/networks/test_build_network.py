"""What holds for every family: sizes, counted layers, initialisation, image sizes, memory format."""

import itertools
import math
from collections.abc import Iterable

import pytest
import torch
from torch import nn

import reluscope
from reluscope.networks import network_families

ACTIVATIONS = {"relu": nn.ReLU, "prelu": nn.PReLU, "leaky_relu": nn.LeakyReLU}
SLOPES = {"relu": 0.0, "prelu": 0.25, "leaky_relu": 0.01}


def convolutions(widths: Iterable[int]) -> int:
    """Weights of a chain of 3x3 convolutions, without bias, through these widths."""
    return sum(9 * before * after for before, after in itertools.pairwise(widths))


def batch_norms(widths: Iterable[int]) -> int:
    return sum(2 * width for width in widths)


def linear(features: int, classes: int) -> int:
    return features * classes + classes


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def expected_parameters(family: str, blocks: int, in_channels: int, classes: int) -> int:
    """Closed forms, from the tables of the papers; `blocks` a stage."""
    if family == "pyramidnet":
        outs = [round(16 + 84 * k / (3 * blocks)) for k in range(1, 3 * blocks + 1)]
        ins = [16, *outs[:-1]]
        chain = [in_channels, 16, *(width for out in outs for width in (out, out))]
        norms = [16, *ins, *outs, *outs, 100]  # first; in each block on its input, then twice on its output; last
        return convolutions(chain) + batch_norms(norms) + linear(100, classes)
    stages = (32, 32, 32) if family == "toynet" else (16, 32, 64)
    inner = [width for width in stages for _ in range(2 * blocks)]  # output of every convolution but the first
    chain = [in_channels, stages[0], *inner]
    if family == "fixup_resnet":
        scalars = 3 * blocks * 5 + 2  # four biases and a multiplier a block; after the first convolution; before linear
        return convolutions(chain) + scalars + linear(64, classes)
    return convolutions(chain) + batch_norms(chain[1:]) + linear(stages[-1], classes)  # a BN reads every convolution


@pytest.mark.parametrize("depth", [8, 20, 32])
@pytest.mark.parametrize("family", network_families())
def test_parameter_count_in_closed_form(family, depth):
    network = reluscope.build_network(family, in_channels=2, num_classes=7, depth=depth)
    assert count_parameters(network) == expected_parameters(family, (depth - 2) // 6, in_channels=2, classes=7)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet20", 269_722),
        ("convnet20", 269_722),
        ("toynet20", 168_298),
        ("pyramidnet20", 688_125),
        ("fixup_resnet20", 268_393),
    ],
)
def test_parameter_count_on_cifar10(name, parameters):
    assert count_parameters(reluscope.build_network(name)) == parameters


def test_parameter_count_against_the_published_resnet():
    # The original, post-activation ResNet-20 is quoted with 272,474 parameters.  Its BNs follow the convolutions (19
    # of them: 16 * 7 + 32 * 6 + 64 * 6 = 688 channels); ours precede all but the first and one ends the network, on the
    # same 688.  That figure includes two projections, 1x1 convolutions with BN, which option A has not.
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert count_parameters(reluscope.build_network("resnet20")) + projections == 272_474


@pytest.mark.parametrize("name", ["resnet20", "pyramidnet20", "fixup_resnet20"])
def test_one_prelu_slope_a_site(name):
    layers = len(counted_layers(reluscope.build_network(name), nn.ReLU, torch.zeros(1, 3, 8, 8)))
    with_slopes = reluscope.build_network(name, activation="prelu")
    assert count_parameters(with_slopes) == count_parameters(reluscope.build_network(name)) + layers


def counted_layers(network: nn.Module, kind: type[nn.Module], images: torch.Tensor) -> list[tuple[str, tuple]]:
    """(name, (channels, height, width)) of every pre-activation, in forward order."""
    seen: list[tuple[str, tuple]] = []
    for name, module in network.named_modules():
        if isinstance(module, kind):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.append((name, tuple(inputs[0].shape[1:])))
            )
    with torch.no_grad():
        network(images)
    return seen


STAGE_1, STAGE_2, STAGE_3 = (16, 32, 32), (32, 16, 16), (64, 8, 8)
TOY_1, TOY_2, TOY_3 = (32, 32, 32), (32, 16, 16), (32, 8, 8)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        # The first activation of a stage still sees what leaves the stage before.
        ("resnet20", [STAGE_1] * 7 + [STAGE_2] * 6 + [STAGE_3] * 6),
        ("convnet20", [STAGE_1] * 7 + [STAGE_2] * 6 + [STAGE_3] * 6),
        ("toynet20", [TOY_1] * 7 + [TOY_2] * 6 + [TOY_3] * 6),
        ("fixup_resnet20", [STAGE_1] * 7 + [STAGE_2] * 6 + [STAGE_3] * 6),
        (
            "pyramidnet20",
            [(width, 32, 32) for width in (25, 35, 44)]
            + [(width, 16, 16) for width in (53, 63, 72)]
            + [(width, 8, 8) for width in (81, 91, 100, 100)],
        ),
    ],
)
def test_counted_layers(name, shapes):
    layers = counted_layers(reluscope.build_network(name), nn.ReLU, torch.randn(2, 3, 32, 32))
    assert [shape for _, shape in layers] == shapes


def block_layers(*activations: str) -> list[str]:
    return [f"stage{s}.block{b}.{name}" for s in (1, 2, 3) for b in (0, 1) for name in activations]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resnet14", [*block_layers("activation1", "activation2"), "activation"]),
        ("convnet14", [*block_layers("activation1", "activation2"), "activation"]),
        ("pyramidnet14", [*block_layers("activation"), "activation"]),
        ("fixup_resnet14", ["first_activation", *block_layers("activation1", "activation2")]),
    ],
)
def test_layer_names(name, names):
    layers = counted_layers(reluscope.build_network(name), nn.ReLU, torch.randn(2, 3, 8, 8))
    assert [layer for layer, _ in layers] == names


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("family", network_families())
def test_activation_modules(family, activation):
    network = reluscope.build_network(family, depth=8, activation=activation)
    sites = [module for module in network.modules() if isinstance(module, tuple(ACTIVATIONS.values()))]
    assert len(sites) == (4 if family == "pyramidnet" else 7)
    assert {type(site) for site in sites} == {ACTIVATIONS[activation]}
    assert not any(getattr(site, "inplace", False) for site in sites)
    negative = torch.tensor([-2.0])
    assert all(site(negative).item() == pytest.approx(-2 * SLOPES[activation]) for site in sites)


@pytest.mark.parametrize("activation", SLOPES)
@pytest.mark.parametrize("family", network_families())
def test_convolutions_are_kaiming_normal(family, activation):
    torch.manual_seed(0)
    network = reluscope.build_network(family, depth=14, activation=activation)
    scale = {"conv1": 6**-0.5, "conv2": 0.0} if family == "fixup_resnet" else {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            std = math.sqrt(2 / (1 + SLOPES[activation] ** 2) / (9 * module.out_channels))
            std *= scale.get(name.rpartition(".")[2], 1.0)
            weight = module.weight.detach()
            standard_error = std / math.sqrt(2 * weight.numel())
            assert abs(weight.std().item() - std) <= 5 * standard_error, name
            assert abs(weight.mean().item()) <= 5 * std / math.sqrt(weight.numel()), name
            if std:  # a uniform distribution of the same std ends at 1.73 std
                assert weight.abs().max().item() > 2.2 * std, name


@pytest.mark.parametrize("family", network_families())
def test_same_seed_same_bits(family):
    def weights(seed: int) -> list[bytes]:
        torch.manual_seed(seed)
        state = reluscope.build_network(family, depth=8).state_dict()
        return [tensor.numpy().tobytes() for tensor in state.values()]

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


@pytest.mark.parametrize("family", network_families())
@pytest.mark.parametrize(("in_channels", "height", "width"), [(1, 8, 8), (3, 9, 11), (2, 17, 8), (5, 13, 30)])
def test_any_image_size(family, in_channels, height, width):
    torch.manual_seed(0)
    network = reluscope.build_network(family, in_channels, num_classes=4, depth=8)
    images = torch.randn(3, in_channels, height, width, requires_grad=True)
    logits = network(images)
    assert logits.shape == (3, 4)
    (logits - torch.ones(4)).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("family", network_families())
def test_channels_last(family):
    torch.manual_seed(0)
    network = reluscope.build_network(family, depth=8)
    images = torch.randn(2, 3, 32, 32)
    plain = network(images)
    fallen_back: list[str] = []

    def look(name, output):
        if output.dim() == 4 and not output.is_contiguous(memory_format=torch.channels_last):
            fallen_back.append(name)

    for name, module in network.named_modules():
        module.register_forward_hook(lambda _module, _inputs, output, name=name: look(name, output))
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), plain, rtol=1e-3, atol=1e-4)
    assert fallen_back == []


@pytest.mark.parametrize("option", ["in_channels", "num_classes"])
def test_refuses_no_channels_or_classes(option):
    with pytest.raises(ValueError, match=f"{option}: expected at least 1, but got 0"):
        reluscope.build_network("resnet8", **{option: 0})


def test_refuses_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'toynet'"):
        reluscope.build_network("toynett20")
