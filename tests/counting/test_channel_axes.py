"""Which axis holds the channels, and which the images: found, followed, or asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from plain_patterns import assert_agree, assert_counts, bits_of, hooked
from torch import Tensor, nn

from reluscope import count_patterns
from reluscope.preactivations.warned import CountingWarning


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
    with pytest.warns(
        CountingWarning, match=r"2 of 4 activations are not counted \('1.gelu \(GELU\)', '2.gelu .*signs=Tr"
    ):
        only_relu = count_patterns(network, images, batch_size=4)
    assert [layer.layer_name for layer in only_relu] == ["1.relu", "2.relu"]
    batches = list(images.split(4))
    gelu = hooked(network, (nn.GELU,), batches, axis=3)
    relu = hooked(network, (nn.ReLU,), batches)
    assert_agree(layers, [gelu[0], relu[0], gelu[1], relu[1]])
    assert_agree(only_relu, relu)


GIVEN: list[Tensor] = []  # not in the network: what it holds is put back


@pytest.fixture(autouse=True)
def _nothing_given() -> None:
    GIVEN.clear()


class Then(nn.Module):
    """A module, then some function, then ReLU; what ReLU is given is kept."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.function, self.relu = module, function, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        GIVEN.append(self.function(self.module(x)))
        return self.relu(GIVEN[-1])


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
        # GPT-2's Conv1D, LeViT's norm after a linear layer, merged heads of attention, an attention map on the right
        (
            nn.Identity(),
            lambda x: torch.addmm(torch.ones(7), x.view(-1, 6), torch.ones(6, 7)).view(4, 5, 7),
            (4, 5, 6),
            2,
        ),
        (nn.Linear(6, 7), lambda x: nn.BatchNorm1d(7)(x.flatten(0, 1)).reshape_as(x), (4, 5, 6), 2),
        (nn.Linear(6, 8), lambda x: x.view(4, 5, 8, 1).squeeze(-1), (4, 5, 6), 2),
        (
            nn.Linear(6, 4),
            lambda x: (x.mT @ x).unsqueeze(1).expand(4, 3, 4, 4).transpose(1, 2).reshape(4, 4, 12),
            (4, 5, 6),
            2,
        ),
        (nn.Conv1d(3, 5, 1), lambda x: (x @ (x.mT @ x).mT).view(4, 5, 2, 3), (4, 3, 6), 1),
        (nn.Conv2d(3, 5, 1), lambda x: x.flatten(2).unflatten(2, (3, 2)), (4, 3, 2, 3), 1),
        (nn.Linear(6, 7), lambda x: torch.baddbmm(torch.ones(1), x, torch.ones(4, 7, 3)), (4, 5, 6), 2),
    ],
)
def test_the_channel_axis_is_followed(module, function, shape: tuple[int, ...], axis: int) -> None:
    torch.manual_seed(4)
    network = Then(module, function)
    (layer,) = count_patterns(network, torch.randn(shape))
    assert layer.channel_axis == axis
    assert layer.height * layer.width * shape[0] * layer.num_channels == GIVEN[0].numel()
    assert_counts(layer, bits_of(GIVEN[0], axis))


@pytest.mark.parametrize("shape", [(20, 4), (8, 4), (4, 4), (3, 4)])
def test_sequences_with_images_on_the_second_axis_are_counted_without_labels(shape: tuple[int, int]) -> None:
    """nn.TransformerEncoder's own order, [tokens, n, features]; the tokens may be a multiple of the images."""
    torch.manual_seed(6)
    tokens, num_images = shape
    layer = nn.TransformerEncoderLayer(6, 2, 10, activation="relu")
    images = torch.randn(num_images * 2, tokens, 6)
    network = Then(nn.Identity(), lambda x: layer.linear1(x.transpose(0, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CountingWarning)  # of height and width
        (counted,) = count_patterns(network, images, num_images)
    assert (counted.channel_axis, counted.num_positions) == (2, num_images * 2 * tokens)
    assert_counts(counted, bits_of(layer.linear1(images), 2))


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
        assert_counts(layer, bits_of(GIVEN[0], axis))
    (layer,) = count_patterns(network, images, channel_axis=2)
    assert_counts(layer, bits_of(GIVEN[0], 2))
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
            GIVEN.append(self.linear(x))
            return torch.relu(GIVEN[-1])

    torch.manual_seed(5)
    network = Windows()
    (layer,) = count_patterns(network, torch.randn(3, 4, 4, 3))
    assert GIVEN[0].shape == (12, 4, 5)
    assert (layer.height, layer.width, layer.num_positions) == (4, 4, 48)
    assert_counts(layer, bits_of(GIVEN[0], 2))


class Weighted(nn.Module):
    """A function of the images and a parameter, then a ReLU."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.weight, self.function, self.relu = nn.Parameter(torch.randn(*shape)), function, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.function(x, self.weight))


@pytest.mark.parametrize(
    ("function", "shape", "axis"),
    [
        (lambda x, w: torch.einsum("nchw,cd->nhwd", x, w), (3, 5), 3),
        (lambda x, w: torch.einsum("nchw, cd -> ndhw", x, w), (3, 5), 1),
        (lambda x, w: torch.einsum("dc,nchw->nhdw", w, x), (5, 3), 2),
        (lambda x, w: torch.einsum("nhwc,cd->nhwd", F.conv2d(x, torch.ones(3, 3, 1, 1)).movedim(1, -1), w), (3, 5), 3),
        (lambda x, w: torch.tensordot(x, w, ([1], [0])), (3, 5), 3),
        (lambda x, w: w @ F.unfold(x, 3), (5, 27), 1),
        (lambda x, w: F.fold(w @ F.unfold(x, 1), (6, 4), 1), (5, 3), 1),
        (lambda x, w: F.unfold(x, 3).transpose(1, 2) @ w, (27, 5), 2),
    ],
)
def test_channels_that_sums_over_parameters_make(
    function: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], axis: int
) -> None:
    torch.manual_seed(5)
    network, images = Weighted(function, *shape), torch.randn(7, 3, 6, 4)
    (layer,) = count_patterns(network, images, batch_size=3)
    assert (layer.num_channels, layer.channel_axis) == (5, axis)
    bits = [bits_of(function(batch, network.weight), axis) for batch in images.split(3)]
    assert_counts(layer, np.concatenate(bits))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: torch.einsum("nchw,cde->nhwde", x, w),
        lambda x, w: torch.einsum("nchw,nkhw->nchk", x, x),
        lambda x, w: torch.bmm(F.linear(x.flatten(1), w.flatten(0, 1)).view(-1, 8, 9), x.flatten(1)[:, :9, None]),
    ],
)
def test_channels_that_may_be_on_several_axes_are_asked_for(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    network, images = Weighted(function, 3, 24, 72), torch.randn(7, 3, 6, 4)
    with pytest.raises(ValueError, match=r"Layer 'relu': it cannot be told which axis of .* give channel_axis"):
        count_patterns(network, images, batch_size=3)
