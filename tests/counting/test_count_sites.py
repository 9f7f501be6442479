"""Any network's layers: counts against plain hooks, wrapped functions, and numpy.unique on bits packed by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from reluscope import count_patterns
from reluscope.guarded_torchvision import torchvision
from reluscope.patterns import PatternCounts

Bits = NDArray[np.bool_]


def bits_of(tensor: Tensor, channel_axis: int = 1, threshold: float = 0.0) -> Bits:
    """[positions, channels]."""
    moved = np.moveaxis(tensor.detach().numpy(), channel_axis, -1)
    return (moved > np.float32(threshold)).reshape(-1, moved.shape[-1])


def frequencies(rows: Bits) -> dict[bytes, int]:
    distinct, counts = np.unique(np.packbits(rows, axis=1, bitorder="little"), axis=0, return_counts=True)
    return {row.tobytes(): int(count) for row, count in zip(distinct, counts, strict=True)}


def assert_counts(layer: PatternCounts, rows: Bits) -> None:
    """Counts of each pattern up to 64 channels; above, where a key is not the pattern, how often counts occur."""
    expected = frequencies(rows)
    assert layer.num_channels == rows.shape[1]
    assert layer.num_positions == len(rows)
    if layer.num_channels > 64:
        assert sorted(layer.counts.tolist()) == sorted(expected.values())
        return
    width = -(-layer.num_channels // 8)
    keys = {int(key).to_bytes(8, "little")[:width]: n for key, n in zip(layer.keys, layer.counts.tolist(), strict=True)}
    assert keys == expected


def assert_agree(layers: list[PatternCounts], expected: list[Bits]) -> None:
    assert len(layers) == len(expected)
    for layer, rows in zip(layers, expected, strict=True):
        assert_counts(layer, rows)


@contextmanager
def prepared(network: nn.Module) -> Iterator[None]:
    """Batch-norm in training mode, all else in evaluation mode, no gradients."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        yield


def hooked(network: nn.Module, kinds: tuple[type[nn.Module], ...], batches: list[Tensor], axis: int = 1) -> list[Bits]:
    """The bits of every call of modules of some kinds, in forward order."""
    passes: list[list[Bits]] = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_pre_hook(lambda _, args: passes[-1].append(bits_of(args[0], axis)))
    with prepared(network):
        for batch in batches:
            passes.append([])
            network(batch)
    return [np.concatenate(layer) for layer in zip(*passes, strict=True)]


@pytest.mark.parametrize(
    ("name", "first", "some"),
    [
        ("resnet18", "relu", {"layer1.0.relu", "layer1.0.relu_1", "layer4.1.relu_1"}),
        ("vgg11_bn", "features.2", {"features.27", "classifier.1"}),
        ("mobilenet_v2", "features.0.2", {"features.18.2"}),
    ],
)
def test_networks_of_torchvision(name: str, first: str, some: set[str]) -> None:
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(num_classes=3)
    images = torch.randn(3, 3, 32, 32)
    layers = count_patterns(network, images, batch_size=3)
    assert layers[0].layer_name == first
    assert some <= {layer.layer_name for layer in layers}
    assert {layer.bit for layer in layers} == {f"input of {'ReLU6' if name == 'mobilenet_v2' else 'ReLU'} > 0"}
    assert_agree(layers, hooked(network, (nn.ReLU, nn.ReLU6), [images]))


class Functions(nn.Module):
    """Calls all kinds of functions, in a submodule and by itself; `seen` are its pre-activations, written by hand."""

    class Part(nn.Module):
        def __init__(self, seen: list[Tensor]) -> None:
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 6), nn.ReLU()
            self.seen = seen

        def note(self, x: Tensor) -> Tensor:
            self.seen.append(x.clone())
            return x

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.note(self.linear(x))) - 0.2
            x = F.relu(self.note(self.linear(x)), inplace=True) - 0.2
            x = self.relu(self.note(self.linear(x))) - 0.2
            x = self.note(self.linear(x)).relu_() - 0.2
            return F.leaky_relu(input=self.note(self.linear(x)), negative_slope=0.1)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.part = self.Part(self.seen)
        self.relu6 = nn.Identity()  # a name that is taken

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.part.note(self.part(x) - 0.1))
        x = F.hardtanh(self.part.note(x * 4 - 3), min_val=-0.5)
        return F.threshold(self.part.note(x), 0.25, 0.0)


def test_functions_are_named_after_the_module_that_calls_them() -> None:
    torch.manual_seed(1)
    network, data = Functions(), torch.randn(11, 6)
    layers = count_patterns(network, data, batch_size=11)
    assert [(layer.layer_name, layer.bit) for layer in layers] == [
        ("part.relu_1", "input of ReLU > 0"),
        ("part.relu_2", "input of ReLU > 0"),
        ("part.relu", "input of ReLU > 0"),
        ("part.relu_3", "input of ReLU > 0"),
        ("part.leaky_relu", "input of LeakyReLU > 0"),
        ("relu6_1", "input of ReLU6 > 0"),
        ("hardtanh", "input of Hardtanh > -0.5"),
        ("threshold", "input of Threshold > 0.25"),
    ]
    thresholds = [0.0] * 6 + [-0.5, 0.25]
    assert_agree(layers, [bits_of(x, threshold=t) for x, t in zip(network.seen, thresholds, strict=True)])


@pytest.mark.parametrize("engine", ["numpy", "numba", "torch"])
@pytest.mark.parametrize("module", [nn.Hardtanh(0.1, 2.0), nn.Threshold(0.1, 0.0)], ids=repr)
def test_a_threshold_other_than_0_is_exact(engine: str, module: nn.Module) -> None:
    """0.1 in float32, and its neighbours: the difference to a threshold would be rounded, the comparison is not."""
    edge = np.float32(0.1)
    values = [np.nextafter(edge, np.float32(-1)), edge, np.nextafter(edge, np.float32(1)), np.float32("nan")]
    (layer,) = count_patterns(module, torch.tensor([values, values]), engine=engine)
    assert (layer.keys.tolist(), layer.counts.tolist()) == ([0b100], [2])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_transformer_encoder(activation: str, batch_first: bool) -> None:
    """The oracle computes each layer by hand from its submodules; batches of 4 and 3, so that axes are told apart."""
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 20, activation=activation, batch_first=batch_first)
    encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=batch_first)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.encoder = nn.Embedding(30, 8), encoder

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embedding(tokens)
            return self.encoder(x if batch_first else x.transpose(0, 1))

    network, tokens = Network(), torch.randint(30, (7, 5))
    layers = count_patterns(network, tokens, batch_size=4, signs=activation == "gelu")
    assert [one.layer_name for one in layers] == [f"encoder.layers.{i}.{activation}" for i in range(2)]
    assert [(one.height, one.width, one.channel_axis) for one in layers] == [(5, 1, 2)] * 2
    assert layers[0].bit == {"relu": "input of ReLU > 0", "gelu": "sign of the input of GELU"}[activation]
    expected: list[list[Bits]] = [[], []]
    function = getattr(F, activation)
    with prepared(network):
        for batch in tokens.split(4):
            x = network.embedding(batch)
            x = x if batch_first else x.transpose(0, 1)
            for rows, part in zip(expected, encoder.layers, strict=True):
                x = part.norm1(x + part.self_attn(x, x, x)[0])
                hidden = part.linear1(x)
                rows.append(bits_of(hidden, 2))
                x = part.norm2(x + part.linear2(function(hidden)))
    assert_agree(layers, [np.concatenate(rows) for rows in expected])
    assert torch.backends.mha.get_fastpath_enabled()


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, channels last, layer-norm, two linear layers with GELU between, channels first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.LayerNorm(width)
        self.expand, self.gelu, self.reduce = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = self.reduce(self.gelu(self.expand(y) + 0.1))
        return self.relu(x + y.permute(0, 3, 1, 2))


def test_channels_are_found_first_and_last_in_one_network() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 5, 1), ConvNeXtBlock(5), ConvNeXtBlock(5))
    images = torch.randn(6, 3, 4, 4)
    layers = count_patterns(network, images, batch_size=4, signs=True)
    assert [layer.layer_name for layer in layers] == ["1.gelu", "1.relu", "2.gelu", "2.relu"]
    assert [(layer.num_channels, layer.height, layer.width, layer.channel_axis) for layer in layers] == [
        (20, 4, 4, 3),
        (5, 4, 4, 1),
    ] * 2
    only_relu = count_patterns(network, images, batch_size=4)
    assert [layer.layer_name for layer in only_relu] == ["1.relu", "2.relu"]
    batches = list(images.split(4))
    gelu = hooked(network, (nn.GELU,), batches, axis=3)
    relu = hooked(network, (nn.ReLU,), batches)
    assert_agree(layers, [gelu[0], relu[0], gelu[1], relu[1]])
    assert_agree(only_relu, relu)


class Then(nn.Module):
    """A module, then some function, then ReLU; what ReLU is given is kept."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.function, self.relu = module, function, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        self.given = self.function(self.module(x))
        return self.relu(self.given)


@pytest.mark.parametrize(
    ("module", "function", "shape", "axis"),
    [
        (nn.Identity(), lambda x: x, (4, 3, 5, 6), 1),
        (nn.Identity(), lambda x: x, (4, 5, 6), 2),
        (nn.Conv1d(3, 5, 1), lambda x: x, (4, 3, 6), 1),
        (nn.Conv1d(3, 5, 1), lambda x: x.transpose(1, 2), (4, 3, 6), 2),
        (nn.Conv1d(3, 5, 1), lambda x: F.dropout(x, 0.0) + x.mean(2, keepdim=True), (4, 3, 6), 1),
        (nn.Conv3d(3, 5, 1), lambda x: x, (4, 3, 2, 2, 2), 1),
        (nn.Linear(6, 7), lambda x: x * 2, (4, 5, 5, 6), 3),
        (nn.Linear(6, 7), lambda x: torch.cat([x, x], -1)[:, 1:], (4, 5, 5, 6), 3),
        (nn.Linear(6, 7), lambda x: x.movedim(-1, 1), (4, 5, 5, 6), 1),
        (nn.Linear(6, 7), lambda x: x.chunk(2, 1)[0].mT, (4, 6, 6), 1),
        (nn.Conv2d(3, 5, 1), lambda x: x.flatten(2).permute(0, 2, 1), (4, 3, 5, 5), 2),
        (nn.Conv2d(3, 5, 1), lambda x: x * x.mean((2, 3)).view(4, 5, 1, 1), (4, 3, 5, 5), 1),
        (nn.Conv2d(3, 5, 1), lambda x: x.flatten(1), (4, 3, 2, 2), 1),
        (nn.Conv2d(3, 5, 1), lambda x: F.interpolate(x, scale_factor=2).add_(1), (4, 3, 2, 2), 1),
        (nn.Conv2d(3, 5, 1), nn.LayerNorm([5, 7, 8]), (4, 3, 7, 8), 1),
        (nn.Conv2d(3, 5, 1), lambda x: nn.RMSNorm(5)(x.permute(0, 2, 3, 1)), (4, 3, 7, 8), 3),
        (nn.Conv2d(3, 5, 1), lambda x: nn.LayerNorm(5)(x.permute(0, 2, 3, 1).view(4, 8, 7, 5)), (4, 3, 7, 8), 3),
        (nn.Identity(), nn.LayerNorm([3, 7, 8]), (4, 3, 7, 8), 1),
        (nn.Identity(), nn.LayerNorm(8), (4, 3, 7, 8), 3),
        (nn.Conv1d(3, 5, 1), lambda x: torch.ones(7, 5) @ x, (4, 3, 6), 1),
        (nn.Linear(6, 7), lambda x: torch.ones(4, 8, 5) @ x, (4, 5, 6), 2),
        (nn.Linear(6, 7), lambda x: x @ x.mT, (4, 5, 6), 2),
        (nn.Identity(), lambda x: torch.matmul(x, torch.ones(6, 3)), (4, 5, 5, 6), 3),
        (nn.Conv1d(3, 5, 1), lambda x: x.transpose_(1, 2), (4, 3, 6), 2),
    ],
)
def test_the_channel_axis_is_followed(module, function, shape: tuple[int, ...], axis: int) -> None:
    torch.manual_seed(4)
    network = Then(module, function)
    (layer,) = count_patterns(network, torch.randn(shape))
    assert layer.channel_axis == axis
    assert layer.height * layer.width * shape[0] * layer.num_channels == network.given.numel()
    assert_counts(layer, bits_of(network.given, axis))


def test_an_axis_that_cannot_be_told_must_be_given() -> None:
    network = Then(nn.Conv2d(6, 6, 1), lambda x: x.reshape(4, 2, 3, 9))
    images = torch.randn(4, 6, 3, 3)
    with pytest.raises(
        ValueError, match=r"Layer 'relu': it cannot be told which axis of \[4, 2, 3, 9\] .* channel_axis"
    ):
        count_patterns(network, images)
    given: list[Any] = [2, {"no*": 1, "*": 1, "relu": 3}, {"re*": -1}]
    for channel_axis, axis in zip(given[1:], (1, 3), strict=True):
        if "no*" in channel_axis:
            with pytest.raises(ValueError, match=r"channel_axis: 'no\*' matches no layer; there are relu$"):
                count_patterns(network, images, channel_axis=channel_axis)
            continue
        (layer,) = count_patterns(network, images, channel_axis=channel_axis)
        assert layer.channel_axis == axis
        assert_counts(layer, bits_of(network.given, axis))
    (layer,) = count_patterns(network, images, channel_axis=2)
    assert_counts(layer, bits_of(network.given, 2))
    with pytest.raises(ValueError, match=r"channel_axis: expected an axis of layer 'relu', .* but got 4$"):
        count_patterns(network, images, channel_axis=4)
    summed = Then(nn.Conv1d(3, 5, 1), lambda x: torch.tensordot(x, torch.ones(6, 7), ([2], [0])))
    with pytest.raises(ValueError, match=r"it cannot be told which axis of \[4, 5, 7\]"):
        count_patterns(summed, torch.randn(4, 3, 6))


def test_windows_folded_into_the_images_are_positions() -> None:
    """[n, 4, 4, channels] as n * 4 windows of 4 tokens."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = x.unflatten(1, (2, 2)).unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(0, 2)
            self.given = self.linear(x)
            return torch.relu(self.given)

    torch.manual_seed(5)
    network = Windows()
    (layer,) = count_patterns(network, torch.randn(3, 4, 4, 3))
    assert network.given.shape == (12, 4, 5)
    assert (layer.height, layer.width, layer.num_positions) == (4, 4, 48)
    assert_counts(layer, bits_of(network.given, 2))


class Sometimes(nn.Module):
    """A layer that only the first batch reaches, among others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), nn.Linear(3, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.body(self.stem(x))
        return F.silu(F.elu(x)) if self.calls % 2 == 0 else F.silu(torch.relu(x))


def test_layers_are_chosen_by_patterns_of_names() -> None:
    torch.manual_seed(6)
    network, data = Sometimes(), torch.randn(6, 2)

    def names(**choice: Any) -> list[str]:
        network.calls = 0
        return [layer.layer_name for layer in count_patterns(network, data, 3, **choice)]

    with pytest.raises(ValueError, match=r"Layer 'relu': .*a later batch did not reach it; exclude"):
        names()
    assert names(exclude=["relu", "elu"], signs=True) == ["stem.1", "silu"]  # one in each batch alone
    assert names(exclude=["relu"]) == names(include=["stem.*"]) == names(include="stem.1") == ["stem.1"]
    assert names(include=["stem.*", "silu"], signs=True) == ["stem.1", "silu"]
    with pytest.raises(
        ValueError,
        match=r"^include: 'stm\.\*' matches no layer; there are stem\.1, relu; with signs=True also silu \(SiLU\)$",
    ):
        names(include=["stem.*", "stm.*"])
    with pytest.raises(ValueError, match=r"^exclude: 'silu' matches no layer; there are stem\.1, relu; with signs"):
        names(include="stem.*", exclude="silu")
    with pytest.raises(ValueError, match=r"^include, exclude: they leave no layer; there are stem\.1, relu"):
        names(include="stem.1", exclude="stem.*")


def test_a_long_list_of_layers_is_cut() -> None:
    network = nn.Sequential(*(nn.ReLU() for _ in range(30)))
    with pytest.raises(ValueError, match=r"there are 0, 1, 2, .* 18, 19 and 10 more$"):
        count_patterns(network, torch.ones(2, 3), include=["a"])


def test_activations_that_are_not_piecewise_linear_are_counted_on_request() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.SiLU())
    with pytest.raises(
        ValueError, match=r"\(ReLU, .*Threshold\), but it called none; with signs=True also 1 \(SiLU\)$"
    ):
        count_patterns(network, torch.randn(4, 2))
    assert [layer.bit for layer in count_patterns(network, torch.randn(4, 2), signs=True)] == [
        "sign of the input of SiLU"
    ]


def test_what_an_activation_module_calls_is_part_of_it() -> None:
    class Leaky(nn.ReLU):
        def forward(self, input: Tensor) -> Tensor:
            return F.relu(input) - 0.1 * torch.relu(-input)

    network = nn.Sequential(Leaky(), nn.ReLU())
    assert [layer.layer_name for layer in count_patterns(network, torch.randn(4, 2))] == ["0", "1"]


def test_a_module_of_torchscript_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="script"):
        part = torch.jit.script(nn.ReLU())
    with pytest.raises(ValueError, match=r"^1: expected a module whose calls can be seen, but it is compiled by Torch"):
        count_patterns(nn.Sequential(nn.Linear(2, 2), part), torch.ones(2, 2))


def test_a_compiled_network_is_counted_uncompiled() -> None:
    torch.manual_seed(7)
    network, data = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.randn(4, 2)
    compiled = torch.compile(network, backend="eager")
    (layer,) = count_patterns(compiled, data)
    assert layer.layer_name == "_orig_mod.1"
    assert_counts(layer, bits_of(network[0](data)))


def test_batches_that_pass_together_and_functions() -> None:
    """In double precision, so that no sum's order turns a bit."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.norm(self.conv(x)))

    torch.manual_seed(8)
    network, images = Network().double(), torch.randn(11, 3, 6, 6).double()
    (layer,) = count_patterns(network, images, 4, batches_at_once=2)
    with prepared(network):
        expected = np.concatenate([bits_of(network.norm(network.conv(batch))) for batch in images.split(4)])
    assert_counts(layer, expected)
