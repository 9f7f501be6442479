"""ConvNet: the ResNet with its shortcuts removed (Hartmann et al. 2021, section 3.1)."""

from __future__ import annotations

from torch import nn

from reluscope.networks.names import NetworkSpec
from reluscope.networks.resnet import build_preactivation_network


def build_convnet(spec: NetworkSpec, in_channels: int, num_classes: int) -> nn.Module:
    """A ResNet without shortcuts; 6n + 1 counted layers for n blocks a stage."""
    return build_preactivation_network(spec, in_channels, num_classes, has_shortcuts=False)
