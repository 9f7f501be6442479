"""Tensors inside the transforms of torch.func, which stand for others."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack


def outside() -> AbstractContextManager[object]:
    """Within it, no transform of torch.func is at work."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return nullcontext()
    return temporarily_clear_interpreter_stack()  # type: ignore[no-any-return]


def readable(name: str, preactivation: Tensor) -> Tensor:
    """The tensor itself, where it stands for one of the same values, as in grad and the like.

    Raises:
        ValueError: it stands for one image of many, as in vmap, or is nested.
    """
    if preactivation.is_nested:
        raise ValueError(
            f"Layer {name!r}: its input is a nested tensor, whose rows have no common shape; give the network padded "
            "tensors, or exclude the layer"
        )
    while torch._C._functorch.is_gradtrackingtensor(preactivation):
        preactivation = torch._C._functorch.get_unwrapped(preactivation)
    if torch._C._functorch.is_functorch_wrapped_tensor(preactivation):
        raise ValueError(
            f"Layer {name!r}: its input lies inside torch.func.vmap, where it cannot be read; call the network "
            "without, or exclude the layer"
        )
    return preactivation
