"""Watches the pre-activations of any network, in forward order, and leaves the network exactly as it was found.

`activations` lists what counts as an activation and what a bit of its pattern means; `sites` finds the calls in a
forward pass, `operations` those that no function shows, and `image_flow` what depends on the images; `channels` tells
which axis holds the channels; `choice` is a choice among the layers, `not_counted` what is in none; `mode` prepares a
network, and `found` puts it back.
"""

from reluscope.preactivations.activations import ACTIVATIONS, Activation
from reluscope.preactivations.choice import LayerChoice
from reluscope.preactivations.found import Found
from reluscope.preactivations.mode import counting_mode, device_of
from reluscope.preactivations.not_counted import NotCounted
from reluscope.preactivations.site import Site, Visit
from reluscope.preactivations.sites import Watcher, observe, watched

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Found",
    "LayerChoice",
    "NotCounted",
    "Site",
    "Visit",
    "Watcher",
    "counting_mode",
    "device_of",
    "observe",
    "watched",
]
