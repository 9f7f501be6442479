"""PyramidNet: Han, Kim & Kim (2017), "Deep Pyramidal Residual Networks"."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope.networks.names import NetworkSpec
from reluscope.networks.parts import conv3x3, make_activation, make_head, make_stages

FIRST_WIDTH = 16
ALPHA = 84  # channels added over all blocks together


class PoolShortcut(nn.Module):
    """Average of 2x2 pixels where the stride is 2, then zero channels appended; no parameters.

    [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].  At an odd border the average is over the
    pixels there are.
    """

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.appended = out_width - in_width

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.appended))

    def extra_repr(self) -> str:
        return f"appended={self.appended}"


class PyramidBlock(nn.Module):
    """BN, convolution, BN, activation, convolution, BN; plus the block's input.  One activation.

    [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].
    """

    def __init__(self, in_width: int, out_width: int, stride: int, activation: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = conv3x3(in_width, out_width, stride, activation)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.activation = make_activation(activation)
        self.conv2 = conv3x3(out_width, out_width, 1, activation)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.shortcut = PoolShortcut(in_width, out_width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.bn1(x))
        out = self.conv2(self.activation(self.bn2(out)))
        return self.bn3(out) + self.shortcut(x)


def pyramid_widths(blocks_per_stage: int) -> list[list[int]]:
    """Channels after every block, [stage][block]: 16 + 84 * k / (3 * blocks_per_stage) after the k-th, k from 1.

    Rounded to the nearest integer, halves to the even one.
    """
    num_blocks = 3 * blocks_per_stage
    widths = [round(FIRST_WIDTH + ALPHA * k / num_blocks) for k in range(1, num_blocks + 1)]
    return [widths[start : start + blocks_per_stage] for start in range(0, num_blocks, blocks_per_stage)]


def build_pyramidnet(spec: NetworkSpec, in_channels: int, num_classes: int) -> nn.Module:
    """PyramidNet of basic blocks, additive widening; 3n + 1 counted layers for n blocks a stage.

    A BN, without activation, follows the first convolution.  The classifier keeps torch's default initialisation.
    """

    def block(in_width: int, out_width: int, stride: int) -> nn.Module:
        return PyramidBlock(in_width, out_width, stride, spec.activation)

    return nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, FIRST_WIDTH, 1, spec.activation),
            first_bn=nn.BatchNorm2d(FIRST_WIDTH),
            **make_stages(block, FIRST_WIDTH, pyramid_widths(spec.blocks_per_stage)),
            **make_head(FIRST_WIDTH + ALPHA, num_classes, spec.activation),
        )
    )
