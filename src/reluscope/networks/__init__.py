"""The paper's networks, and any other that can be imported: a name in, an `nn.Module` out.

Importing this room does not import torch, so that a configuration is checked before any job starts;
`build_network` does, when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reluscope.networks.names import (
    DEFAULT_CHANNELS,
    DEFAULT_CLASSES,
    NetworkSpec,
    check_network,
    is_import_path,
    network_families,
    network_from_config,
    resolve_network,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_network", "check_network", "network_families", "network_from_config", "network_of"]


def build_network(
    name: str,
    in_channels: int | None = None,
    num_classes: int | None = None,
    *,
    depth: int | None = None,
    activation: str | None = None,
    widths: Sequence[int] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A network, newly initialised from torch's global generator: the caller seeds it.

    One of the paper's networks maps float images [n, in_channels, height, width], at least 8 x 8, to logits
    [n, num_classes]. Convolutions are Kaiming-normal (fan_out, gain of the activation) without bias; each activation
    site is a module of its own, and none works in place.

    An import path stands for what the function or class there returns:
    ``build_network("torchvision.models:resnet18", arguments={"num_classes": 10})``.

    Args:
        name: family, with or without a depth: ``"resnet20"``, ``"pyramidnet"`` (see `network_families`); or
            ``"package.module:function"``.
        in_channels: channels of the images; 3 by default.
        num_classes: classes to tell apart; 10 by default.
        depth: 6n + 2 for n blocks a stage; 20 where neither this nor the name says.
        activation: ``"relu"`` (the default), ``"prelu"`` (one learned slope a site, 0.25 at first) or
            ``"leaky_relu"`` (0.01).
        widths: channels of the three stages instead of the family's own; not for pyramidnet.
        arguments: of the imported function, which is given nothing else: for import paths only, where none of the
            other options go.

    Raises:
        ValueError: a name or value that is not offered, and the message says what is; or an import that failed, and
            it says which part.
    """
    if is_import_path(name):
        ours = {"in_channels": in_channels, "num_classes": num_classes, "depth": depth, "activation": activation}
        for option, given in {**ours, "widths": widths}.items():
            if given is not None:
                raise ValueError(f"{option}: not for an imported network; give {name} what it takes as arguments")
        from reluscope.networks.imported import build_imported

        return build_imported(name, arguments or {})
    if arguments is not None:
        raise ValueError(f"arguments: only for an imported network (package.module:function), not for {name!r}")
    spec = resolve_network(name, depth, activation or "relu", widths)
    in_channels = DEFAULT_CHANNELS if in_channels is None else in_channels
    num_classes = DEFAULT_CLASSES if num_classes is None else num_classes
    for option, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if value < 1:
            raise ValueError(f"{option}: expected at least 1, but got {value}")
    return _builders()[spec.family](spec, in_channels, num_classes)


def network_of(network: Mapping[str, Any], in_channels: int, num_classes: int) -> nn.Module:
    """The network of a run, for images of `in_channels` and so many classes; an imported one knows its own.

    Args:
        network: as `network_from_config` returns it.

    Raises:
        ValueError: as `build_network`.
    """
    if "import" in network:
        return build_network(network["import"], arguments=network["arguments"])
    return build_network(in_channels=in_channels, num_classes=num_classes, **network)


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
