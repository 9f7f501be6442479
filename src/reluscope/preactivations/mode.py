"""The state in which a network is counted, and the way back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def counting_mode(network: nn.Module) -> Iterator[None]:
    """Prepares `network` for counting, and afterwards puts back every bit that this or a forward pass changed.

    Inside: no gradients; batch-norm in training mode, so that each batch is normalised by its own statistics, without
    those of other processes, which do not count; and all else in evaluation mode, so that dropout is off. Restored,
    also after an exception: each module's mode, each buffer (identity and content: batch-norm's running statistics),
    and the random states of torch, NumPy and Python, which images or a network may draw from.
    """
    modules = list(network.modules())
    synchronised = [m for m in modules if isinstance(m, nn.SyncBatchNorm) and "forward" not in vars(m)]
    modes = [module.training for module in modules]
    registered = [dict(module._buffers) for module in modules]  # also those that are None until a forward fills them
    contents = [
        (buffer, buffer.clone()) for of_module in registered for buffer in of_module.values() if buffer is not None
    ]
    tensors = [*network.parameters(), *network.buffers()]
    gpus = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whoever draws from it
    try:
        with torch.no_grad(), torch.random.fork_rng(gpus):
            for module in modules:  # not network.eval(): an overridden train() may do more than set the flag
                module.training = isinstance(module, _BatchNorm)
            for module in synchronised:
                vars(module)["forward"] = partial(_BatchNorm.forward, module)
            yield
    finally:
        for module in synchronised:
            vars(module).pop("forward", None)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for buffer, content in contents:
            buffer.data.copy_(content)  # .data: a backward pass that is still to come takes no notice
        for module, of_module in zip(modules, registered, strict=True):
            module._buffers.clear()
            module._buffers.update(of_module)


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer; the CPU where it has neither."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")
