"""What a tensor is of tensors before it, as far as operations on single values made it: a multiple, a mask, a gate."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

Kind = Literal["multiple", "linear", "function", "mask"]


@dataclass(frozen=True)
class Form:
    """What one tensor is of another, value by value.

    Attributes:
        kind: a multiple by a number above 0; "linear", by other factors; any other function; or a mask, which is 1
            where the other is above a threshold, or where it is not.
        factor: of a multiple.
        through: the last function on the way that bends (sigmoid, tanh, exp, ...).
        threshold: of a mask.
        is_above: whether a mask is 1 above it.
        is_strict: whether a mask that is 1 above is 0 at the threshold itself, and so on.
        parts: numbers of what was found on the way, and is a part of whatever is found with it.
    """

    kind: Kind
    factor: float = 1.0
    through: str | None = None
    threshold: float = 0.0
    is_above: bool = True
    is_strict: bool = True
    parts: frozenset[int] = frozenset()

    def bent(self, through: str | None, parts: Iterable[int] = ()) -> Form:
        """A function of it."""
        return Form("function", through=through or self.through, parts=self.parts | frozenset(parts))

    def scaled(self, factor: float | None) -> Form:
        """It times a number, or times what no number is known of."""
        if factor == 1:
            return self
        if self.kind == "multiple" and factor is not None and factor > 0:
            return replace(self, factor=self.factor * factor)
        if self.kind in ("multiple", "linear"):
            return Form("linear", parts=self.parts)
        return self.bent("step" if self.kind == "mask" else None)


Forms = Mapping[int, Form]
"""By the number of the tensor before; every tensor has a number of its own, of which it is the multiple by 1."""

IDENTITY = Form("multiple")


class Ancestry:
    """The forms of each tensor of a forward pass."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._known: dict[int, tuple[weakref.ref[Tensor], int, dict[int, Form]]] = {}

    def of(self, tensor: Tensor) -> dict[int, Form]:
        """A tensor's forms: its own number first."""
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == _version(tensor):
            return known[2]
        return self.learn(tensor, {})

    def learn(self, tensor: Tensor, forms: Forms) -> dict[int, Form]:
        """A tensor was made, or written."""
        own = {next(self._numbers): IDENTITY, **forms}
        self._known[id(tensor)] = (weakref.ref(tensor), _version(tensor), own)
        return own


def shared(one: Forms, other: Forms) -> list[tuple[int, Form, Form]]:
    """The tensors before that two tensors are both made of, the nearest first, and their forms."""
    return [(number, form, other[number]) for number, form in one.items() if number in other]


def mapped(forms: Forms, function: Callable[[Form], Form]) -> dict[int, Form]:
    return {number: function(form) for number, form in forms.items()}


def parts_of(*forms: Forms) -> frozenset[int]:
    return frozenset().union(*(form.parts for some in forms for form in some.values()))


def number_in(value: object, depends: Callable[[Tensor], bool]) -> float | None:
    """The number that an operand is, also as a tensor of one value that is no matter of the images."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and not depends(value):
        return float(value) if value.device.type != "meta" else None
    return None


def is_zero(value: object, depends: Callable[[Tensor], bool]) -> bool:
    """Whether an operand is 0 everywhere, whatever the images."""
    if isinstance(value, Tensor):
        return not depends(value) and value.device.type != "meta" and not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
