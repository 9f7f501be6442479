"""Watches the pre-activations of any network, in forward order, and leaves the network exactly as it was found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU)
"""Modules, subclasses included, whose input is a pre-activation: its pattern bit is 1 where it is > 0."""

Visit = Callable[[int, str, Tensor], None]
"""Takes the layer's index in forward order from 0, its name, and its pre-activation of any shape and dtype."""


@contextmanager
def observe(network: nn.Module, visit: Visit) -> Iterator[None]:
    """Calls `visit(index, layer_name, preactivation)` for each activation of the one forward pass made inside.

        with observe(network, visit):
            network(batch)

    A layer is named after its module; a module that is called again gives another layer, named like torchvision's
    feature extraction: "layer1.0.relu", then "layer1.0.relu_1". `visit` must consume the tensor before it returns: an
    in-place activation overwrites it right after. An exception in `visit` ends the forward pass.

    Raises:
        ValueError: the network has no activation module.
    """
    modules = {name or type(module).__name__.lower(): module for name, module in network.named_modules()}
    activations = {name: module for name, module in modules.items() if isinstance(module, ACTIVATIONS)}
    if not activations:
        sought = ", ".join(activation.__name__ for activation in ACTIVATIONS)
        raise ValueError(
            f"observe: expected a network with an activation module ({sought}), but {type(network).__name__} has none"
        )
    visited: list[str] = []

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            index, layer_name = len(visited), _layer_name(name, visited, modules)
            visited.append(layer_name)
            visit(index, layer_name, args[0] if args else kwargs["input"])

        return hook

    handles = []
    try:
        for name, module in activations.items():
            handles.append(module.register_forward_pre_hook(hook_for(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_name(name: str, visited: list[str], modules: dict[str, nn.Module]) -> str:
    """`name` at a module's first call; later the first of `name`_1, `name`_2, ... that names nothing else."""
    candidate, calls = name, 0
    while candidate in visited or (calls and candidate in modules):
        calls += 1
        candidate = f"{name}_{calls}"
    return candidate


@contextmanager
def counting_mode(network: nn.Module) -> Iterator[None]:
    """Prepares `network` for counting, and afterwards puts back every bit that this or a forward pass changed.

    Inside: no gradients; batch-norm in training mode, so that each batch is normalised by its own statistics, and
    all else in evaluation mode, so that dropout is off. Restored, also after an exception: each module's mode, each
    buffer (identity and content: batch-norm's running statistics), and the random states of torch, NumPy and Python,
    which images or a network may draw from.
    """
    modules = list(network.modules())
    modes = [module.training for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]
    tensors = [*network.parameters(), *network.buffers()]
    gpus = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whoever draws from it
    try:
        with torch.no_grad(), torch.random.fork_rng(gpus):
            for module in modules:  # not network.eval(): an overridden train() may do more than set the flag
                module.training = isinstance(module, _BatchNorm)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, name, buffer, content in buffers:
            buffer.data.copy_(content)  # .data: a backward pass that is still to come takes no notice
            module._buffers[name] = buffer


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer; the CPU where it has neither."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")
