"""Any network's layers: counts against plain hooks, wrapped functions, and numpy.unique on bits packed by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from plain_patterns import Bits, assert_agree, assert_counts, bits_of, hooked, prepared
from torch import Tensor, nn

from reluscope import count_patterns
from reluscope.guarded_torchvision import torchvision
from reluscope.preactivations.warned import CountingWarning


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


SEEN: list[Tensor] = []  # not in the network: what it holds is put back


class Functions(nn.Module):
    """Calls all kinds of functions, in a submodule and by itself; `SEEN` are its pre-activations, written by hand."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 6), nn.ReLU()

        def note(self, x: Tensor) -> Tensor:
            SEEN.append(x.clone())
            return x

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.note(self.linear(x))) - 0.2
            x = F.relu(self.note(self.linear(x)), inplace=True) - 0.2
            x = self.relu(self.note(self.linear(x))) - 0.2
            x = self.note(self.linear(x)).relu_() - 0.2
            return F.leaky_relu(input=self.note(self.linear(x)), negative_slope=0.1)

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()
        self.relu6 = nn.Identity()  # a name that is taken

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.part.note(self.part(x) - 0.1))
        x = F.hardtanh(self.part.note(x * 4 - 3), min_val=-0.5)
        return F.threshold(self.part.note(x), 0.25, 0.0)


def test_functions_are_named_after_the_module_that_calls_them() -> None:
    torch.manual_seed(1)
    network, data = Functions(), torch.randn(11, 6)
    SEEN.clear()
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
    assert_agree(layers, [bits_of(x, threshold=t) for x, t in zip(SEEN, thresholds, strict=True)])


@pytest.mark.filterwarnings("ignore:pre-activations are NaN")
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


class Sometimes(nn.Module):
    """A layer that only the first batch reaches, which begins with a 1, among others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        is_first = x[0, 0] == 1
        x = self.body(self.stem(x))
        return F.silu(torch.relu(x)) if is_first else F.silu(F.elu(x))


def test_layers_are_chosen_by_patterns_of_names() -> None:
    torch.manual_seed(6)
    network, data = Sometimes(), torch.randn(6, 2)
    data[0, 0] = 1

    def names(**choice: Any) -> list[str]:
        return [layer.layer_name for layer in count_patterns(network, data, 3, **choice)]

    with pytest.warns(CountingWarning) as told:
        assert names() == ["stem.1", "relu"]
    lines = [str(one.message) for one in told]
    assert lines[0].startswith(
        "1 of 3 activations are not counted ('silu (SiLU)': it is not piecewise linear; signs=True"
    )
    assert lines[1].endswith("layers and positions in all: 'relu (3)'")
    assert names(exclude=["relu", "elu"], signs=True) == ["stem.1", "silu"]  # one in each batch alone
    assert names(exclude=["relu", "silu"]) == names(include=["stem.*"]) == names(include="stem.1") == ["stem.1"]
    assert names(include=["stem.*", "silu"], signs=True) == ["stem.1", "silu"]
    with pytest.raises(
        ValueError,
        match=r"^include: 'stm\.\*' matches no layer; there are stem\.1, relu; with signs=True also silu \(SiLU\)$",
    ):
        names(include=["stem.*", "stm.*"])
    with pytest.raises(ValueError, match=r"^exclude: 'selu' matches no layer; there are stem\.1, relu; with signs"):
        names(include="stem.*", exclude="selu")
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
    with pytest.warns(CountingWarning, match=r"1 of 3 .*'0.relu \(ReLU\)': it is a further call in a module"):
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
