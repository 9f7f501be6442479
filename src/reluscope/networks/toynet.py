"""ToyNet: no shortcuts, and equally many channels in every stage (Hartmann et al. 2021, section 3.1)."""

from __future__ import annotations

from torch import nn

from reluscope.networks.names import NetworkSpec
from reluscope.networks.resnet import build_preactivation_network


def build_toynet(spec: NetworkSpec, in_channels: int, num_classes: int) -> nn.Module:
    """A ResNet without shortcuts, 32 channels wide throughout (`names.FAMILIES`); 6n + 1 counted layers."""
    return build_preactivation_network(spec, in_channels, num_classes, has_shortcuts=False)
