"""Several batches in one forward pass, each normalised by its own statistics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SIGNATURE = inspect.signature(F.batch_norm)


def batch_norm_in_groups(num_groups: int) -> AbstractContextManager[object]:
    """Within it, batch-norm in training mode takes its input for `num_groups` batches of equal size, one after another.

    No module is altered: `torch.nn.functional.batch_norm` is intercepted, which torch's modules call too; what calls
    `torch.batch_norm` itself, or is compiled by TorchScript, is not seen. Running statistics are not updated. One group
    is torch's own batch-norm, to the bit.
    """
    return nullcontext() if num_groups == 1 else _GroupedBatchNorm(num_groups)


class _GroupedBatchNorm(TorchFunctionMode):
    def __init__(self, num_groups: int) -> None:
        super().__init__()
        self._num_groups = num_groups

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            bound = _SIGNATURE.bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.arguments["training"]:
                names = ("input", "weight", "bias", "eps")
                return _normalise(self._num_groups, *(bound.arguments[name] for name in names))
        return func(*args, **kwargs)


def _normalise(num_groups: int, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Ioffe & Szegedy (2015), Algorithm 1, for each group; biased variance.  [n, channels, ...] -> the same."""
    if len(values) % num_groups:
        raise ValueError(
            f"batches_at_once: expected batch-norm's input to hold {num_groups} batches of equal size, but got "
            f"{len(values)} rows"
        )
    if len(values) == num_groups and values[0, 0].numel() == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(values.shape)}")
    dtype = torch.promote_types(values.dtype, torch.float32)  # half precision is for the result only, as in torch's own
    groups = values.to(dtype).unflatten(0, (num_groups, -1))  # [groups, images, channels, ...], a view in float32
    over = [1, *range(3, groups.ndim)]
    variance, mean = torch.var_mean(groups, dim=over, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    a_channel = [-1, *[1] * (groups.ndim - 3)]
    if weight is not None:
        scale = scale * weight.view(a_channel)
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias.view(a_channel)
    return torch.addcmul(shift, groups, scale).flatten(0, 1).to(values.dtype)
