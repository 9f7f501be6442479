"""Activations that no module or function of torch shows: counted, or told by name; what sees no images is no layer."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope import count_patterns, layers
from reluscope.preactivations.not_counted import BY_SIGN as BY_SIGN_REASON
from reluscope.preactivations.warned import CountingWarning

CHANNELS = 6


class Beside(nn.Module):
    """A ReLU module, then a function of one's own, whose input is kept."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(5, CHANNELS), nn.ReLU(), nn.Linear(CHANNELS, CHANNELS)
        self.function, self.seen = function, _Seen()

    def forward(self, x: Tensor) -> Any:
        x = self.last(self.relu(self.first(x)))
        self.seen.inputs.append(x.clone())
        return self.function(x)


class _Seen:
    """Out of the reach of what puts a network back."""

    __slots__ = ()
    inputs: list[Tensor] = []  # noqa: RUF012 - of the class, on purpose


def keys_of(bits: Tensor) -> np.ndarray[Any, Any]:
    """The key of each row: channel c is bit c."""
    return (bits.long() * 2 ** torch.arange(bits.shape[1])).sum(1).numpy()


def scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(function)


def script_relu(x: Tensor) -> Tensor:
    return x * (x > 0).to(x.dtype)


def script_hard_mish(x: Tensor) -> Tensor:
    return x * (x + 2).clamp(min=0, max=2) / 2


def set_negative(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def in_place(x: Tensor) -> Tensor:
    x *= x > 0
    return x


class Efficient(torch.autograd.Function):
    """The memory-efficient Swish of EfficientNets."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class OwnReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


EXACT: dict[str, tuple[Callable[[Tensor], Any], str, str]] = {
    "aten.relu": (torch.ops.aten.relu, "relu_1", "input of ReLU > 0"),
    "aten.leaky_relu": (lambda x: torch.ops.aten.leaky_relu.default(x, 0.1), "leaky_relu", "input of LeakyReLU > 0"),
    "clamp": (lambda x: x.clamp(min=0), "clamp", "input of ReLU > 0"),
    "clamp_min_": (lambda x: x.clamp_min_(0.0), "clamp", "input of ReLU > 0"),
    "clip": (lambda x: torch.clip(x, min=torch.zeros(CHANNELS)), "clamp", "input of ReLU > 0"),
    "max": (lambda x: torch.max(x, torch.zeros_like(x)), "maximum", "input of ReLU > 0"),
    "maximum": (lambda x: torch.maximum(torch.tensor(0.0), x), "maximum", "input of ReLU > 0"),
    "fmax": (lambda x: torch.fmax(x, x.new_zeros(1)), "fmax", "input of ReLU > 0"),
    "max(x, a x)": (lambda x: torch.maximum(x, 0.1 * x), "maximum", "input of LeakyReLU > 0"),
    "where": (lambda x: torch.where(x > 0, x, 0.0), "where", "input of ReLU > 0"),
    "where <=": (lambda x: torch.where(x <= 0, torch.zeros_like(x), x), "where", "input of ReLU > 0"),
    "where 0 <": (lambda x: torch.where(0 < x, x, 0), "where", "input of ReLU > 0"),  # noqa: SIM300
    "where ~": (lambda x: torch.where(~(x < 0), x, 0.0), "where", "input of ReLU > 0"),
    "where, leaky": (lambda x: torch.where(x > 0, x, -0.2 * x), "where", "input of LeakyReLU > 0"),
    "where, learned": (lambda x: torch.where(x > 0, x, torch.ones(CHANNELS) * x), "where", "input of LeakyReLU > 0"),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0.0), "masked_fill", "input of ReLU > 0"),
    "masked_fill_": (lambda x: x.masked_fill_(x <= 0, 0.0), "masked_fill", "input of ReLU > 0"),
    "x[x < 0] = 0": (set_negative, "index_put", "input of ReLU > 0"),
    "x * (x > 0)": (lambda x: x * (x > 0), "mul", "input of ReLU > 0"),
    "x *= x > 0": (in_place, "mul", "input of ReLU > 0"),
    "x * step": (lambda x: x * torch.heaviside(x, torch.tensor(0.0)), "mul", "input of ReLU > 0"),
    "x * (x > 0.1)": (lambda x: x * (x > 0.1), "mul", "input of Threshold > 0.1"),
    "TorchScript": (scripted(script_relu), "mul", "input of ReLU > 0"),
    "autograd": (OwnReLU.apply, "clamp", "input of ReLU > 0"),
    "relu squared": (lambda x: F.relu(x) ** 2, "relu_1", "input of ReLU > 0"),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_comes_to_a_rectifier_is_counted_exactly(name: str) -> None:
    function, layer_name, bit = EXACT[name]
    torch.manual_seed(0)
    network, images = Beside(function), torch.randn(30, 5)
    network.seen.inputs.clear()
    first, own = count_patterns(network, images, batch_size=11)  # batches of 11, 11 and 8
    assert (first.layer_name, first.bit) == ("relu", "input of ReLU > 0")
    assert (own.layer_name, own.bit) == (layer_name, bit)
    threshold = float(bit.rpartition(" ")[2])
    seen = torch.cat(network.seen.inputs[-3:])
    assert len(seen) == 30
    keys, counts = np.unique(keys_of(seen > threshold), return_counts=True)
    np.testing.assert_array_equal(own.keys, keys)
    np.testing.assert_array_equal(own.counts, counts)


BY_SIGN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "gelu_new": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0)))),
        "tanh_gate",
    ),
    "gelu_fast": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
        "tanh_gate",
    ),
    "erf gelu": (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), "erf_gate"),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), "sigmoid_gate"),
    "swish": (lambda x: x.mul(x.sigmoid()), "sigmoid_gate"),
    "learned swish": (lambda x: x * torch.sigmoid(torch.ones(CHANNELS) * x), "sigmoid_gate"),
    "x / (1 + exp(-x))": (lambda x: x / (1 + torch.exp(-x)), "exp_gate"),
    "MemoryEfficientSwish": (Efficient.apply, "sigmoid_gate"),
    "mish": (lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))), "tanh_gate"),
    "HardMish": (scripted(script_hard_mish), "clamp_gate"),
    "hardswish": (lambda x: x * F.hardsigmoid(x), "hardsigmoid_gate"),
    "EvoNorm-S0": (lambda x: x * torch.sigmoid(1.5 * x) / x.std(1, keepdim=True), "sigmoid_gate"),
    "elu": (lambda x: torch.where(x > 0, x, torch.exp(x) - 1), "where"),
    "aten.gelu": (torch.ops.aten.gelu, "gelu"),
}


@pytest.mark.parametrize("name", BY_SIGN)
def test_a_gate_of_ones_own_is_counted_by_sign_on_request(name: str) -> None:
    function, layer_name = BY_SIGN[name]
    torch.manual_seed(1)
    network, images = Beside(function), torch.randn(30, 5)
    network.seen.inputs.clear()
    _, own = count_patterns(network, images, batch_size=11, signs=True)
    assert own.layer_name == layer_name
    assert own.bit.startswith("sign of the input of ")
    keys, counts = np.unique(keys_of(torch.cat(network.seen.inputs[-3:]) > 0), return_counts=True)
    np.testing.assert_array_equal(own.keys, keys)
    np.testing.assert_array_equal(own.counts, counts)
    line = rf"^1 of 2 activations are not counted \('{layer_name} .*signs=True"
    with pytest.warns(CountingWarning, match=line) as told:
        (only,) = counts_of = count_patterns(network, images, batch_size=11)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert only.layer_name == "relu"
    assert [one.name for one in counts_of.not_counted] == [layer_name]


def in_a_thread(x: Tensor) -> Tensor:
    results: list[Tensor] = []
    thread = threading.Thread(target=lambda: results.append(F.relu(x)))
    thread.start()
    thread.join()
    return results[0]


NAMED: dict[str, tuple[Callable[[Tensor], Any], str, str]] = {
    "laplace": (lambda x: 0.5 * (1 + torch.erf((x - 0.7) / (0.28 * math.sqrt(2)))), "erf", "two sides"),
    "TLU": (lambda x: torch.max(x, torch.full((1, CHANNELS), -1.0)), "maximum", "its kink is at a tensor"),
    "maxout": (lambda x: torch.maximum(x[:, :3], x[:, 3:]), "maximum", "larger"),
    "min": (lambda x: torch.minimum(x, torch.zeros(1)), "minimum", "limit"),
    "clip": (lambda x: torch.clip(x, -1, 1), "clamp", "limit"),
    "clamp(min=1)": (lambda x: x.clamp(min=1), "clamp", "its kink is at a number other than 0"),
    "heaviside": (lambda x: torch.heaviside(x, torch.tensor(0.0)), "heaviside", "step"),
    "spike": (lambda x: (x - 0.3 > 0).float(), "step", "step"),
    "glu": (F.glu, "glu", "gate"),
    "gated by another": (lambda x: x[:, :3] * (x[:, 3:] > 0), "mul", "another tensor"),
    "chosen by another": (lambda x: torch.where(x[:, 3:] > 0, x[:, :3], 0.0), "where", "another tensor"),
    "upside down": (lambda x: torch.where(x > 0, 0.0, x), "where", "not its own"),
    "|x|": (lambda x: (x + x.abs()) / 2, "abs", "alike"),
    "shrinkage": (F.softshrink, "softshrink", "two places"),
    "softplus": (lambda x: torch.log1p(torch.exp(x)), "softplus", "not piecewise linear"),
    "logaddexp": (lambda x: torch.logaddexp(x, torch.zeros(1)), "logaddexp", "smooth"),
    "NumPy": (lambda x: torch.from_numpy(np.maximum(x.numpy(), 0)), "numpy", "NumPy"),
    "a thread": (in_a_thread, "relu_1", "another thread"),
    "lstm": (lambda x: torch.sigmoid(x[:, :3]) * torch.tanh(x[:, 3:]), "sigmoid", "two sides"),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("signs", [False, True])
def test_what_cannot_be_counted_is_told_by_name(name: str, signs: bool) -> None:
    function, own_name, reason = NAMED[name]
    torch.manual_seed(2)
    network, images = Beside(function), torch.randn(12, 5)
    with pytest.warns(CountingWarning, match=rf"activations are not counted \('{own_name} \(") as told:
        counts = count_patterns(network, images, batch_size=5, signs=signs)
    assert len(told) == 1
    assert [layer.layer_name for layer in counts] == ["relu"]
    assert counts.not_counted[0].name == own_name
    assert reason in counts.not_counted[0].reason
    names = sorted({one.name for one in counts.not_counted})
    excluded = count_patterns(network, images, batch_size=5, signs=signs, exclude=names)
    assert [layer.layer_name for layer in excluded] == ["relu"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.normalize(x),
        lambda x: F.softmax(x, -1),
        lambda x: F.layer_norm(x, (CHANNELS,)) * 2 + x,
        lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-6),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
        lambda x: x[x[:, 0] > 0],
        lambda x: x.masked_fill(torch.eye(len(x), CHANNELS) > 0, -math.inf),
        lambda x: F.max_pool1d(x[:, None], 2),
        lambda x: x * torch.rand(CHANNELS).sigmoid() + torch.ones(CHANNELS).clamp(min=0),
    ],
)
def test_what_is_no_activation_is_not_told(function: Callable[[Tensor], Any]) -> None:
    listed = layers(Beside(function), torch.randn(7, 5))
    assert [layer.name for layer in listed.counted] == ["relu"]
    assert listed.not_counted == []


def test_a_recurrent_network_of_relu_is_counted_at_each_step() -> None:
    torch.manual_seed(3)
    network, data = nn.Sequential(nn.RNN(4, 5, nonlinearity="relu", batch_first=True)), torch.randn(7, 3, 4)
    counts = count_patterns(network, data, batch_size=4)
    assert [layer.layer_name for layer in counts] == ["0.relu", "0.relu_1", "0.relu_2"]
    rnn, hidden = network[0], torch.zeros(7, 5)
    for step, layer in enumerate(counts):
        before = data[:, step] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + hidden @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        keys, of_keys = np.unique(keys_of(before > 0), return_counts=True)
        np.testing.assert_array_equal(layer.keys, keys)
        np.testing.assert_array_equal(layer.counts, of_keys)
        hidden = before.relu()


def test_a_program_of_torch_export_is_counted_as_the_network_it_was_made_of() -> None:
    """Channels last in between, so that no axis is right by chance."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.linear, self.out = nn.Linear(4, 6), nn.Conv1d(6, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(torch.relu(self.norm(self.conv(x))).permute(0, 2, 3, 1))
            x = F.relu6(x).flatten(1, 2).transpose(1, 2)
            return F.leaky_relu(self.out(x))

    torch.manual_seed(4)
    network, images = Network().eval(), torch.randn(4, 3, 6, 6)
    program = torch.export.export(network, (images,)).module()
    for module in network.modules():
        module.training = False
    expected = count_patterns(network, images, 4)
    found = count_patterns(program, images, 4)
    assert [layer.layer_name for layer in found] == ["relu", "hardtanh", "leaky_relu"]
    for one, other in zip(found, expected, strict=True):
        assert (one.channel_axis, one.num_channels) == (other.channel_axis, other.num_channels)
    # the program holds batch-norm in evaluation mode: only shapes are compared of what follows it, all of one without
    plain = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.LeakyReLU()).eval()
    data = torch.randn(9, 5)
    program = torch.export.export(plain, (data,)).module()
    for one, other in zip(count_patterns(program, data, 9), count_patterns(plain, data, 9), strict=True):
        np.testing.assert_array_equal(one.keys, other.keys)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_an_operation_of_ones_own_and_a_program_within_are_told() -> None:
    with torch.library._scoped_library("reluscope_test", "DEF") as library:
        library.define("fused_relu(Tensor x) -> Tensor")
        library.impl("fused_relu", lambda x: x.clamp(min=0), "CPU")
        (one,) = layers(Beside(torch.ops.reluscope_test.fused_relu), torch.randn(4, 5)).not_counted
    assert (one.name, one.reason) == ("fused_relu", "it runs as one operation, which cannot be seen into")


# --- what an activation module does by itself


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - 0.3)


class ByHand(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.3).clamp(min=0)


class Wrapping(nn.LeakyReLU):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x - 0.3)


def with_hook() -> nn.Module:
    module = nn.ReLU()
    module.register_forward_pre_hook(lambda module, args: (args[0] - 0.3,))
    return module


def patched() -> nn.Module:
    module = nn.ReLU()
    module.forward = lambda x: F.relu(x - 0.3)  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize("make", [Shifted, ByHand, Wrapping, with_hook, patched])
def test_the_input_of_the_rectifier_is_counted_and_not_that_of_its_module(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(5)
    network, data = nn.Sequential(nn.Linear(4, 5), make(), nn.Linear(5, 3), nn.ReLU()), torch.randn(40, 4)
    first, last = count_patterns(network, data, batch_size=16)
    assert (first.layer_name, last.layer_name) == ("1", "3")
    with torch.no_grad():
        before = torch.cat([network[0](batch) for batch in data.split(16)]) - 0.3
    keys, counts = np.unique(keys_of(before > 0), return_counts=True)
    np.testing.assert_array_equal(first.keys, keys)
    np.testing.assert_array_equal(first.counts, counts)


def test_an_activation_module_that_calls_none_is_told() -> None:
    class Odd(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    network = nn.Sequential(nn.Linear(4, 5), Odd(), nn.ReLU())
    with pytest.warns(CountingWarning, match=r"'1 \(Odd\)': its own forward function calls no activation"):
        assert [layer.layer_name for layer in count_patterns(network, torch.randn(6, 4))] == ["2"]


# --- what does not depend on the images


class Positions(nn.Module):
    """A relative-position network, as in Swin V2, beside layers of images; and positive weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(6, 2))
        self.mlp = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6))
        self.inner, self.outer, self.relu = nn.Linear(4, 6), nn.Linear(6, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.stack([torch.arange(6.0), torch.zeros_like(x[0, 0]).expand(6)], 1)
        bias = self.mlp(self.table) + self.mlp(grid)
        x = self.relu(self.inner(x) + bias[0])
        return F.linear(x, F.relu(self.outer.weight)).relu()


@pytest.mark.parametrize(("num_images", "batch_size"), [(6, 3), (6, 1), (1, 128), (5, 2)])
def test_what_does_not_depend_on_the_images_is_no_layer(num_images: int, batch_size: int) -> None:
    """Six rows of weights, which six, three, two or one images divide."""
    torch.manual_seed(6)
    network, images = Positions(), torch.randn(num_images, 4)
    line = r"^3 of 5 .*'mlp\.1 \(ReLU\)', 'mlp\.1_1 \(ReLU\)', 'relu_1 \(ReLU\)': its input does not depend"
    with pytest.warns(CountingWarning, match=line):
        counts = count_patterns(network, images, batch_size)
    assert [layer.layer_name for layer in counts] == ["relu", "relu_2"]
    assert {layer.num_positions for layer in counts} == {num_images}
    quiet = count_patterns(network, images, batch_size, exclude=["mlp.*", "relu_1"])
    assert [layer.layer_name for layer in quiet] == ["relu", "relu_2"]
    with pytest.raises(
        ValueError, match=r"^include: 'mlp\.1' matches no layer; not counted is mlp\.1 \(ReLU\): its input"
    ):
        count_patterns(network, images, batch_size, include=["mlp.1"])


@pytest.mark.parametrize(
    "through",
    [
        lambda x: torch.from_numpy(x.numpy() * 2),
        lambda x: torch.tensor(x.tolist()),
        lambda x: torch.ones(len(x), CHANNELS) * float(x.mean()),
        in_a_thread,
    ],
)
def test_images_that_take_a_way_that_is_not_seen_are_images(through: Callable[[Tensor], Tensor]) -> None:
    network = Beside(lambda x: torch.relu(through(x)))
    names = [layer.name for layer in layers(network, torch.randn(4, 5)).counted]
    assert names == ["relu", "relu_1"]


def test_what_is_written_into_a_buffer_depends_on_the_images() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("held", torch.zeros(4, 5))

        def forward(self, x: Tensor) -> Tensor:
            self.held.copy_(x)
            return torch.relu(self.held)

    assert [layer.layer_name for layer in count_patterns(Buffered(), torch.randn(8, 5), 4)] == ["relu"]


# --- refusals and lists


def test_a_network_with_nothing_but_activations_of_its_own_says_which() -> None:
    quick = nn.Sequential(nn.Linear(4, 5), Own(lambda x: x * torch.sigmoid(1.702 * x)))
    with pytest.raises(
        ValueError, match=r"called none; with signs=True also 1\.sigmoid_gate \(self-gate \(sigmoid\)\)$"
    ):
        count_patterns(quick, torch.randn(3, 4))
    clipped = nn.Sequential(nn.Linear(4, 5), Own(lambda x: torch.max(x, torch.full((5,), -1.0))))
    with pytest.raises(ValueError, match=r"called none; not counted: 1\.maximum \(maximum\(x, tensor\)\): its kink is"):
        count_patterns(clipped, torch.randn(3, 4), signs=True)


class Own(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_layers_are_listed_with_what_is_not_counted() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.SiLU(), Own(torch.tanh), nn.ReLU())
    images = torch.randn(5, 3, 8, 8)
    found = layers(network, images, 2, exclude="5")
    assert str(found).splitlines() == [
        "counted: 1",
        "  1: input of ReLU > 0, 4 channels, 6 x 6 positions",
        "not counted: 3",
        f"  3 (SiLU): {BY_SIGN_REASON}",
        "  4.tanh (tanh): it has no two sides to be on",
        "  5 (ReLU): include or exclude leave it out",
    ]
    assert [layer.name for layer in layers(network, images, signs=True).counted] == ["1", "3", "5"]
    nothing = layers(nn.Linear(3, 2), torch.randn(2, 3))
    assert (nothing.counted, nothing.not_counted) == ([], [])
    reshaped = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Unflatten(1, (2, 3)), nn.ReLU())
    (refused,) = layers(reshaped, images).not_counted
    assert "give channel_axis" in refused.reason
