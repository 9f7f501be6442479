"""Which tensors of a forward pass depend on the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

_OF_SHAPE_ALONE = ("empty", "zeros", "ones", "full", "rand", "randn", "randint")
_BY_VALUE = frozenset([torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape])
"""Operations with one of these tags give a number, or a shape, that depends on values."""

_LEAVING = frozenset(
    [
        *(Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.item),
        *(Tensor.__int__, Tensor.__float__, Tensor.__complex__, Tensor.__index__),
    ]
)
"""Methods that take values where no operation is seen."""

_HANDING_OVER = frozenset([Tensor.numpy, Tensor.__array__, Tensor.__dlpack__])


class ImageFlow:
    """Follows the images' values from operation to operation, by the memory that these write.

    What is not known is taken to depend on the images: memory that was written where it cannot be seen (another
    thread, NumPy), and all that is computed once numbers were read from what depends on them. What never does so:
    parameters, buffers and other tensors of the modules, and what is computed from these alone.

    Attributes:
        num_images: the length of the first of the images' tensors; 1 while it is not known.
        decides: whether values of the images, or a shape that follows from them, were read: other images may then take
            another way through the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._depends: dict[int, bool] = {}  # by the address of memory
        self._alive: dict[int, StorageWeakRef] = {}  # so that no other memory gets the address
        self._is_begun = self._is_read = self.decides = False
        self.num_images = 1
        for module in network.modules():
            for tensor in tensors_in(vars(module)):
                self._mark(tensor, False)

    def begin(self, inputs: Iterable[object]) -> None:
        """Learn which are the images: the tensors among what the network is called with."""
        for tensor in tensors_in(inputs):
            self._mark(tensor, True)
            if not self._is_begun and tensor.ndim:
                self.num_images = max(len(tensor), 1)
            self._is_begun = True

    def depends(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the images, as far as is known."""
        if not self._is_begun:
            return True
        return self._depends.get(_memory(tensor), tensor.numel() > 1)

    def leave(self, function: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Learn that a function of torch is called; whether it hands values of the images to other libraries."""
        if function in _LEAVING and any(self.depends(tensor) for tensor in tensors_in(args)):
            self._is_read = self.decides = True
            return function in _HANDING_OVER
        return False

    def follow(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: object) -> None:
        """Learn from one operation that ran."""
        name = operation.__name__.partition(".")[0]
        given = list(tensors_in([args, kwargs]))
        depends = self._is_read or any(self.depends(tensor) for tensor in given)
        self.decides |= depends and not _BY_VALUE.isdisjoint(getattr(operation, "tags", ()))
        if name == "_local_scalar_dense":
            self._is_read |= depends and given[0].dtype != torch.bool  # that a branch is taken is no value
            return
        if name.removeprefix("new_").removesuffix("_like") in _OF_SHAPE_ALONE and not self._is_read:
            depends = False
        if name == "lift_fresh" and not self._is_read:  # of a number or list of the program
            depends = self._depends.get(_memory(given[0]), False)
        for tensor in tensors_in([result, *_written(operation, args)]):
            self._mark(tensor, depends or self._depends.get(_memory(tensor), False))

    def _mark(self, tensor: Tensor, depends: bool) -> None:
        if memory := _memory(tensor):
            if memory not in self._alive:
                self._alive[memory] = StorageWeakRef(tensor.untyped_storage())
            self._depends[memory] = depends


def tensors_in(values: object) -> Iterator[Tensor]:
    """The tensors among values, in lists, tuples and mappings too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list | tuple | set):
        for value in values:
            yield from tensors_in(value)


def _written(operation: Any, args: Sequence[Any]) -> Iterator[object]:
    schema = getattr(operation, "_schema", None)
    if schema is not None and schema.is_mutable:
        for argument, given in zip(schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield given


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 of one without any of its own, as sparse ones are."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return 0
