"""ResNet v2 for small images: He, Zhang, Ren & Sun (2016b), "Identity Mappings in Deep Residual Networks"."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from reluscope.networks.names import NetworkSpec
from reluscope.networks.parts import conv3x3, make_activation, make_head, make_stages, pad_shortcut


class PreActivationBlock(nn.Module):
    """BN, activation, convolution, BN, activation, convolution; plus the block's input, where it has a shortcut.

    The shortcut leaves before the block's first BN, so the sum over the blocks of a stage is never normalised.
    [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].
    """

    def __init__(self, in_width: int, out_width: int, stride: int, activation: str, *, has_shortcut: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.activation1 = make_activation(activation)
        self.conv1 = conv3x3(in_width, out_width, stride, activation)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.activation2 = make_activation(activation)
        self.conv2 = conv3x3(out_width, out_width, 1, activation)
        self.shortcut = pad_shortcut(in_width, out_width, stride) if has_shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.activation1(self.bn1(x)))
        out = self.conv2(self.activation2(self.bn2(out)))
        return out if self.shortcut is None else out + self.shortcut(x)


def build_resnet(spec: NetworkSpec, in_channels: int, num_classes: int) -> nn.Module:
    """ResNet v2 with option A shortcuts; 6n + 1 counted layers for n blocks a stage."""
    return build_preactivation_network(spec, in_channels, num_classes, has_shortcuts=True)


def build_preactivation_network(
    spec: NetworkSpec, in_channels: int, num_classes: int, *, has_shortcuts: bool
) -> nn.Module:
    """First convolution, three stages of pre-activation blocks, BN, activation, global average pool, linear.

    The classifier keeps torch's default initialisation.
    """

    def block(in_width: int, out_width: int, stride: int) -> nn.Module:
        return PreActivationBlock(in_width, out_width, stride, spec.activation, has_shortcut=has_shortcuts)

    first_width, *_, last_width = spec.widths
    return nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, first_width, 1, spec.activation),
            **make_stages(block, first_width, [[width] * spec.blocks_per_stage for width in spec.widths]),
            **make_head(last_width, num_classes, spec.activation),
        )
    )
