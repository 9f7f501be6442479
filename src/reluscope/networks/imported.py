"""Networks that are not ours: what a function or class named by its import path returns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reluscope.imports import call, in_one_line
from reluscope.preactivations import counting_mode


def build_imported(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network that the function or class at ``package.module:name`` returns for `arguments`.

    Raises:
        ValueError: one line that says which part of the import or call failed, or that it returned no network or
            one without values.
    """
    network = call(path, dict(arguments))
    if not isinstance(network, nn.Module):
        raise ValueError(f"import {path}: expected it to return a torch.nn.Module, but got {type(network).__name__}")
    for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"import {path}: the network's {name} has no shape yet (a lazy module); pass a batch of images through "
                "it in the function that makes it"
            )
        if tensor.is_meta:
            raise ValueError(
                f"import {path}: the network's {name} has no values (of the device meta); build it on the CPU"
            )
    return network


def require_forward(path: str, network: nn.Module, images: Tensor) -> Any:
    """What the network in training mode makes of some images; it and the random states are left as they were.

    Args:
        path: the network's import path, for the error's words.
        images: at least two, because batch-norm over a single position has no statistics.

    Raises:
        ValueError: the forward pass raised; one line that says what.
    """
    try:
        with counting_mode(network):
            return network.train()(images)
    except Exception as error:  # a stranger's code may raise anything
        reason = in_one_line(error)
        raise ValueError(f"network {path}: the forward pass of images {list(images.shape)} raised {reason}") from error


def require_logits(path: str, network: nn.Module, images: Tensor, num_classes: int) -> None:
    """Whether the network can be trained to tell `num_classes` apart: one tensor of a logit for each.

    Raises:
        ValueError: as `require_forward`; or the output is something else, and the line says what.
    """
    output = require_forward(path, network, images)
    expected = [len(images), num_classes]
    if not isinstance(output, Tensor):
        raise ValueError(
            f"network {path}: training takes one tensor of logits {expected}, but in training mode the network returns "
            f"{type(output).__name__}; turn off further outputs among its arguments"
        )
    if list(output.shape) != expected:
        raise ValueError(
            f"network {path}: expected logits {expected} for the {num_classes} classes of the data, but got "
            f"{list(output.shape)}; give the number of classes among its arguments, as in num_classes: {num_classes}"
        )
