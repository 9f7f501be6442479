"""The state in which a network is counted, and the way back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from reluscope.preactivations.found import Found


@contextmanager
def counting_mode(network: nn.Module) -> Iterator[Found]:
    """Prepares `network` for counting, and afterwards puts back every bit that this or a forward pass changed.

    Inside: no gradients; batch-norm in training mode, so that each batch is normalised by its own statistics, without
    those of other processes, which do not count; and all else in evaluation mode, so that dropout is off. Restored,
    also after an exception: all that `Found` knows of the network, and the random states of torch, NumPy and Python,
    which images or a network may draw from. Whoever makes several passes puts the network back before each.

    Raises:
        ValueError: the network's parameters have no content yet.
    """
    require_content(network)
    modules = list(network.modules())
    modes = [module.training for module in modules]
    gpus = sorted({tensor.device.index for tensor in _tensors(network) if tensor.device.type == "cuda"})
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whoever draws from it
    try:
        for module in modules:  # not network.eval(): an overridden train() may do more than set the flag
            module.training = isinstance(module, _BatchNorm)
        with _alone(modules), torch.no_grad(), torch.random.fork_rng(gpus):
            found = Found(network)
            try:
                yield found
            finally:
                found.look_closely()
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
    found.tell_unknown()


def require_content(network: nn.Module) -> None:
    """Refuse a network whose parameters or buffers are not there yet.

    Raises:
        ValueError: it has lazy modules that were never called, or lies on the meta device; one line that says which.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"network: {name!r} gets its shape with the first forward pass, and there was none yet; call the "
                "network on a batch before, as in network(images[:2])"
            )
        if tensor.device.type == "meta":
            raise ValueError(
                f"network: {name!r} is on the meta device, where tensors have no content; move the network with "
                "to_empty(device='cpu') and load its weights"
            )


@contextmanager
def _alone(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Batch-norm that is synchronised over processes keeps to its own."""
    synchronised = [m for m in modules if isinstance(m, nn.SyncBatchNorm) and "forward" not in vars(m)]
    for module in synchronised:
        vars(module)["forward"] = partial(_BatchNorm.forward, module)
    try:
        yield
    finally:
        for module in synchronised:
            vars(module).pop("forward", None)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer; the CPU where it has neither."""
    for tensor in _tensors(network):
        return tensor.device
    return torch.device("cpu")
