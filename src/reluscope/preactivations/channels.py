"""Which axis of a pre-activation holds the channels, as far as the functions tell that made it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket

FIRST: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        *(F.batch_norm, F.instance_norm, F.group_norm, F.unfold, F.fold),
    ]
)
"""Functions whose result has its channels on axis 1."""

LAST: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.linear, F.bilinear, F.embedding, F.multi_head_attention_forward),
    ]
)
"""Functions whose result has its channels on the last axis."""

_NORMS: frozenset[Callable[..., Any]] = frozenset([F.layer_norm, F.rms_norm])
"""Functions that keep the channels where they are; of one axis they say that it is that of the channels."""

_SUMS_OF_PRODUCTS: frozenset[Callable[..., Any]] = frozenset([torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm])
"""A product of matrices that is added to the first argument."""

_PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    [torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm, *_SUMS_OF_PRODUCTS]
)
"""Products of matrices: new channels stand on the last axis, or on the one before, where weights stand on the left."""

_MOVING: frozenset[Callable[..., Any]] = frozenset(
    [
        getattr(home, name)
        for home in (torch, Tensor)
        for name in ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "flatten", "unsqueeze", "t")
    ]
    + [getattr(Tensor, name) for name in ("transpose_", "swapaxes_", "swapdims_", "unsqueeze_")]
    + [getattr(Tensor, name).__get__ for name in ("T", "mT")]
)
"""Functions that move whole axes, whatever their sizes."""

_RESHAPING: frozenset[Callable[..., Any]] = frozenset(
    [
        *(torch.reshape, Tensor.reshape, Tensor.reshape_as, Tensor.view, Tensor.view_as),
        *(torch.unflatten, Tensor.unflatten, torch.squeeze, Tensor.squeeze),
    ]
)
"""Functions that keep the order of all values: an axis stays where as many values stand before it as did."""

_MIXING: frozenset[Callable[..., Any]] = frozenset([torch.einsum, torch.tensordot])
"""Functions whose axes may mean anything, also where there are as many as before, but for those of parameters alone."""

_OPERATIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("convolution", "_convolution", "conv1d", "conv2d", "conv3d"), F.conv2d),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), F.conv_transpose2d),
    **dict.fromkeys(("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), F.batch_norm),
    "instance_norm": F.instance_norm,
    "im2col": F.unfold,
    "col2im": F.fold,
    **dict.fromkeys(("group_norm", "native_group_norm"), F.group_norm),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), F.layer_norm),
    **dict.fromkeys(("rms_norm", "_fused_rms_norm"), F.rms_norm),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "view_copy", "reshape"), torch.reshape),
    **{name: getattr(F, name) for name in ("linear", "embedding")},
    **{
        name: getattr(torch, name)
        for name in (
            *("matmul", "mm", "bmm", "addmm", "baddbmm", "squeeze", "unflatten", "einsum", "tensordot", "flatten"),
            *("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "unsqueeze", "t"),
        )
    },
}
"""The function that each operation below torch's functions is, as far as the axes matter, by name."""

_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)  # of a tensor whose axes are told apart by them, merged ones too


class ChannelAxes:
    """The channel axis of each tensor of a forward pass.

    Convolutions and norms over channels put it on axis 1, linear layers on the last; functions that keep the number of
    axes keep it, and those that move axes take it along. Where a tensor comes from none of these, axis 1
    is taken of [n, features], [n, channels, height, width] and [n, channels, depth, height, width], the last axis of
    [n, tokens, features].
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], int | None]] = {}  # None: reshaped since

    def of(self, tensor: Tensor) -> int:
        """The axis, from 0.

        Raises:
            ValueError: it cannot be told.
        """
        if tensor.ndim < 2:
            raise ValueError(
                f"expected an axis of images and one of channels, but got shape {list(tensor.shape)}; exclude the layer"
            )
        if tensor.ndim == 2:
            return 1
        if not self._is_known(tensor):
            return 2 if tensor.ndim == 3 else 1
        axis = self._known[id(tensor)][1]
        if axis is None:
            raise ValueError(
                f"it cannot be told which axis of {list(tensor.shape)} holds the channels, because they were reshaped "
                f"after the convolution or linear layer before; give channel_axis"
            )
        return axis

    def follow(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """Learn from one call, of a function or an operation."""
        if isinstance(function, OpOverload | OpOverloadPacket):
            function = _OPERATIONS.get(function.__name__.partition(".")[0].rstrip("_"), function)
        for tensor in _tensors([result]):
            if function in FIRST:
                self._learn(tensor, 1)
            elif function in LAST:
                self._learn(tensor, tensor.ndim - 1)
            elif function in _MIXING:
                self._learn(tensor, _axis_of_mixture(function, args, kwargs, tensor))
            elif sources := [source for source in _tensors([*args, *kwargs.values()]) if self._is_known(source)]:
                self._learn(tensor, self._inherited(function, args, kwargs, sources, tensor))
            elif function in _PRODUCTS:
                self._learn(tensor, tensor.ndim - 1)
            elif function in _NORMS and (axis := _axis_of_norm(args, kwargs, tensor)) is not None:
                self._learn(tensor, axis)

    def _inherited(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        sources: Sequence[Tensor],
        result: Tensor,
    ) -> int | None:
        if function in _RESHAPING:
            axis = self._known[id(sources[0])][1]
            return _kept(sources[0].shape, axis, result.shape) if sources[0] is args[0] else None
        if function in _NORMS and self._known[id(sources[0])][1] is None:
            return _axis_of_norm(args, kwargs, result)
        if function in _PRODUCTS:
            return self._axis_of_product(function, args, kwargs, result)
        if function in _MOVING:
            return _moved(function, args, kwargs, self._known[id(sources[0])][1])
        axes = {self._known[id(source)][1] for source in sources if source.ndim == result.ndim} - {None}
        return axes.pop() if len(axes) == 1 else None

    def _axis_of_product(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor
    ) -> int | None:
        """Channels of the right factor stay where weights on the left mix its rows, or become new ones there; those of
        the left factor's rows stay where another tensor of the images, as an attention map, mixes its columns.
        """
        skipped = 1 if function in _SUMS_OF_PRODUCTS else 0
        left, right = (list(_tensors([*args, *kwargs.values()]))[skipped:] + [result] * 2)[:2]
        if right.ndim == result.ndim > 2 and result.shape[-1] == 1:  # matrices times vectors
            return None
        if self._is_known(left) and self._is_known(right) and left.ndim == right.ndim == result.ndim:
            of_left, of_right = self._known[id(left)][1], self._known[id(right)][1]
            if of_left == result.ndim - 2 and of_right == result.ndim - 2:
                return of_left
        if self._is_known(left) or right.ndim != result.ndim:
            return result.ndim - 1
        return self._known[id(right)][1]

    def _learn(self, tensor: Tensor, axis: int | None) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), axis)

    def _is_known(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known[0]() is tensor  # another tensor may have got the id since


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    """The tensors among some values, and in the lists and tuples among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (item for item in value if isinstance(item, Tensor))


def _axis_of_mixture(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor
) -> int | None:
    """The one axis of the result that comes from parameters alone."""
    operands = list(_tensors([*args, *kwargs.values()]))
    if function is torch.tensordot:
        dims = kwargs.get("dims", args[2] if len(args) > 2 else 2)
        num_summed = dims if isinstance(dims, int) else len(dims[0])
        is_last = isinstance(operands[1], nn.Parameter) and operands[1].ndim - num_summed == 1
        return result.ndim - 1 if is_last else None
    equation = args[0].replace(" ", "") if args and isinstance(args[0], str) else ""
    given, arrow, made = equation.partition("->")
    letters = given.split(",")
    if not arrow or "." in equation or len(letters) != len(operands):
        return None
    of_others = {
        c for each, of in zip(letters, operands, strict=True) if not isinstance(of, nn.Parameter) for c in each
    }
    new = [axis for axis, letter in enumerate(made) if letter not in of_others]
    return new[0] if len(new) == 1 else None


def _axis_of_norm(args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor) -> int | None:
    """The last axis, where layer_norm or rms_norm normalise over it alone."""
    shape = kwargs["normalized_shape"] if "normalized_shape" in kwargs else args[1]
    return result.ndim - 1 if len(shape) == 1 else None


def _kept(before: torch.Size, axis: int | None, after: torch.Size) -> int | None:
    """Where an axis stands after the shape was changed and the order of the values was not: alone as before, or merged
    with its neighbours, as the heads of attention are, but not with the first axis, which is that of images.
    """
    if axis is None or 0 in before:
        return None
    ends = [math.prod(before[:i]) for i in range(len(before) + 1)]
    there = []
    for a in range(len(after)):
        start, end = math.prod(after[:a]), math.prod(after[: a + 1])
        is_alone = after[a] == before[axis] and start == ends[axis]
        is_merged = start in ends[1:] and end in ends and start <= ends[axis] < ends[axis + 1] <= end
        if is_alone or is_merged:
            there.append(a)
    return there[0] if len(there) == 1 else None


def _moved(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], axis: int | None
) -> int | None:
    """Where a function of axes moves one of them, as a tensor without content shows."""
    if axis is None or not args or args[0].ndim > len(_SIZES):
        return None
    probe = torch.empty(_SIZES[: args[0].ndim], device="meta")
    shape = list(function(probe, *args[1:], **kwargs).shape)
    return shape.index(_SIZES[axis]) if _SIZES[axis] in shape else None
