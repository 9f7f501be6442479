"""Watches the pre-activations of any network, in forward order, and leaves the network exactly as it was found.

`activations` lists what counts as an activation and what a bit of its pattern means; `sites` finds the calls in a
forward pass; `channels` tells which axis holds the channels; `choice` is a choice among the layers; `mode` prepares a
network, and `found` puts it back.
"""

from reluscope.preactivations.activations import ACTIVATIONS, Activation
from reluscope.preactivations.choice import LayerChoice
from reluscope.preactivations.found import Found
from reluscope.preactivations.mode import counting_mode, device_of
from reluscope.preactivations.sites import Site, Visit, Watcher, observe, watched

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Found",
    "LayerChoice",
    "Site",
    "Visit",
    "Watcher",
    "counting_mode",
    "device_of",
    "observe",
    "watched",
]
