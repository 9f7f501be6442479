"""The paper's networks: a name in, an `nn.Module` out.

Importing this room does not import torch, so that a configuration is checked before any job starts;
`build_network` does, when called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reluscope.networks.names import NetworkSpec, check_network, network_families, resolve_network

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_network", "check_network", "network_families"]


def build_network(
    name: str,
    in_channels: int = 3,
    num_classes: int = 10,
    *,
    depth: int | None = None,
    activation: str = "relu",
    widths: Sequence[int] | None = None,
) -> nn.Module:
    """One of the paper's networks, newly initialised from torch's global generator: the caller seeds it.

    The network maps float images [n, in_channels, height, width], at least 8 x 8, to logits [n, num_classes].
    Convolutions are Kaiming-normal (fan_out, gain of the activation) without bias; each activation site is a module
    of its own, and none works in place.

    Args:
        name: family, with or without a depth: ``"resnet20"``, ``"pyramidnet"`` (see `network_families`).
        in_channels: channels of the images.
        num_classes: classes to tell apart.
        depth: 6n + 2 for n blocks a stage; 20 where neither this nor the name says.
        activation: ``"relu"``, ``"prelu"`` (one learned slope a site, 0.25 at first) or ``"leaky_relu"`` (0.01).
        widths: channels of the three stages instead of the family's own; not for pyramidnet.

    Raises:
        ValueError: a name or value that is not offered; the message says what is.
    """
    spec = resolve_network(name, depth, activation, widths)
    for option, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if value < 1:
            raise ValueError(f"{option}: expected at least 1, but got {value}")
    return _builders()[spec.family](spec, in_channels, num_classes)


def _builders() -> dict[str, Callable[[NetworkSpec, int, int], nn.Module]]:
    """Family -> builder.  A function, because its imports bring in torch."""
    from reluscope.networks.convnet import build_convnet
    from reluscope.networks.fixup import build_fixup_resnet
    from reluscope.networks.pyramidnet import build_pyramidnet
    from reluscope.networks.resnet import build_resnet
    from reluscope.networks.toynet import build_toynet

    return {
        "convnet": build_convnet,
        "fixup_resnet": build_fixup_resnet,
        "pyramidnet": build_pyramidnet,
        "resnet": build_resnet,
        "toynet": build_toynet,
    }
