"""FixUp ResNet, without normalisation: Zhang, Dauphin & Ma (2019), "Fixup Initialization"."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from reluscope.networks.names import NetworkSpec
from reluscope.networks.parts import conv3x3, make_activation, make_stages, pad_shortcut


class ScalarBias(nn.Module):
    """Adds one learned number, 0 at first, to every element."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class ScalarMultiplier(nn.Module):
    """Multiplies every element by one learned number, 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplier = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.multiplier


def scalar_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters, each of shape [1], of all scalar biases and multipliers, for a learning rate of their own.

    Empty for a network that has none.
    """
    scalars = (module for module in network.modules() if isinstance(module, ScalarBias | ScalarMultiplier))
    return [parameter for module in scalars for parameter in module.parameters()]


class FixupBlock(nn.Module):
    """Convolution, activation, convolution, plus the block's input, activation; scalars in place of BN.

    A bias stands before and after each convolution, and a multiplier after the last.  The shortcut leaves before the
    first bias.  [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].

    The first convolution starts num_blocks**(-1/2) times its usual size and the second at zero (FixUp's rules 1 and
    2 for branches of two layers), so that at first every block passes on its shortcut.
    """

    def __init__(self, in_width: int, out_width: int, stride: int, activation: str, num_blocks: int) -> None:
        super().__init__()
        self.bias1a = ScalarBias()
        self.conv1 = conv3x3(in_width, out_width, stride, activation)
        self.bias1b = ScalarBias()
        self.activation1 = make_activation(activation)
        self.bias2a = ScalarBias()
        self.conv2 = conv3x3(out_width, out_width, 1, activation)
        self.multiplier = ScalarMultiplier()
        self.bias2b = ScalarBias()
        self.activation2 = make_activation(activation)
        self.shortcut = pad_shortcut(in_width, out_width, stride)
        with torch.no_grad():
            self.conv1.weight.mul_(num_blocks**-0.5)
            self.conv2.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bias1b(self.conv1(self.bias1a(x)))
        out = self.conv2(self.bias2a(self.activation1(out)))
        out = self.bias2b(self.multiplier(out))
        return self.activation2(out + self.shortcut(x))


def build_fixup_resnet(spec: NetworkSpec, in_channels: int, num_classes: int) -> nn.Module:
    """ResNet in post-activation order with option A shortcuts; 6n + 1 counted layers for n blocks a stage.

    As in the published FixUp code, the first convolution is followed, and the classifier preceded, by a scalar bias.
    The classifier starts at zero.
    """
    num_blocks = 3 * spec.blocks_per_stage

    def block(in_width: int, out_width: int, stride: int) -> nn.Module:
        return FixupBlock(in_width, out_width, stride, spec.activation, num_blocks)

    first_width, *_, last_width = spec.widths
    linear = nn.Linear(last_width, num_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, first_width, 1, spec.activation),
            first_bias=ScalarBias(),
            first_activation=make_activation(spec.activation),
            **make_stages(block, first_width, [[width] * spec.blocks_per_stage for width in spec.widths]),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            last_bias=ScalarBias(),
            linear=linear,
        )
    )
