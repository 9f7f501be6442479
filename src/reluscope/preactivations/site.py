"""What a layer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reluscope.preactivations.activations import Activation


@dataclass(frozen=True)
class Site:
    """One call of an activation in a forward pass: a layer.

    Attributes:
        index: among the chosen layers in forward order, from 0.
        name: readable, and the same in every pass that makes the same calls.
        activation: what is called.
        threshold: a bit is 1 where the pre-activation is above it.
        channel_axis: the pre-activation's axis of channels, from 0.
    """

    index: int
    name: str
    activation: Activation
    threshold: float
    channel_axis: int

    @property
    def bit(self) -> str:
        """What a bit means, in words."""
        return self.activation.bit(self.threshold)


Visit = Callable[[Site, Tensor], None]
"""Takes a layer and its pre-activation, of any shape and dtype."""


@dataclass
class ModuleCall:
    """An activation module that is being called.

    Attributes:
        depth: how many modules were being called when it was.
        name: its own.
        is_own: it has a forward function of its own.
        is_met: its layer was met.
    """

    depth: int
    name: str
    is_own: bool
    is_met: bool
