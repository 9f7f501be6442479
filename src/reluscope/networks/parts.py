"""What several network families are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope.networks.names import NEGATIVE_SLOPES


def make_activation(name: str) -> nn.Module:
    """A new activation module, not in place; PReLU has one slope for all channels."""
    slope = NEGATIVE_SLOPES[name]
    if name == "relu":
        return nn.ReLU()
    return nn.PReLU(init=slope) if name == "prelu" else nn.LeakyReLU(slope)


def conv3x3(in_width: int, out_width: int, stride: int, activation: str) -> nn.Conv2d:
    """3x3 convolution, padding 1, no bias: [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].

    Weights are drawn Kaiming-normal (He et al. 2015, eq. 14 and 15) with std gain / sqrt(9 * out_width), where
    gain**2 = 2 / (1 + slope**2) for the activation's slope below 0; for ReLU the slope is 0.
    """
    conv = nn.Conv2d(in_width, out_width, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=NEGATIVE_SLOPES[activation], mode="fan_out", nonlinearity="leaky_relu")
    return conv


class PadShortcut(nn.Module):
    """Option A (He et al. 2016a, section 4.2): every stride-th pixel, zero channels on both sides; no parameters.

    [n, in_width, h, w] -> [n, out_width, ceil(h/stride), ceil(w/stride)].  Of an odd number of new channels the
    greater half comes last.
    """

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_width - in_width) // 2
        self.after = out_width - in_width - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def pad_shortcut(in_width: int, out_width: int, stride: int) -> nn.Module:
    """`PadShortcut`, or the identity where nothing changes."""
    unchanged = stride == 1 and in_width == out_width
    return nn.Identity() if unchanged else PadShortcut(in_width, out_width, stride)


def make_stages(
    block: Callable[[int, int, int], nn.Module], in_width: int, widths: Sequence[Sequence[int]]
) -> dict[str, nn.Module]:
    """The stages of a network, named stage1, stage2, ..., each of blocks named block0, block1, ...

    Args:
        block: makes one from (in_width, out_width, stride).
        in_width: channels that enter the first block.
        widths: `widths[s][b]` channels leave block b of stage s.  Every stage but the first starts with stride 2.
    """
    stages: dict[str, nn.Module] = {}
    for s, stage_widths in enumerate(widths):
        stage = nn.Sequential()
        for b, out_width in enumerate(stage_widths):
            stage.add_module(f"block{b}", block(in_width, out_width, 2 if s > 0 and b == 0 else 1))
            in_width = out_width
        stages[f"stage{s + 1}"] = stage
    return stages


def make_head(width: int, num_classes: int, activation: str) -> dict[str, nn.Module]:
    """BN, activation, global average pool, linear: how every pre-activation network ends."""
    return {
        "bn": nn.BatchNorm2d(width),
        "activation": make_activation(activation),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(width, num_classes),
    }
