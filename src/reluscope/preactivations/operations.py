"""Finds activations among the operations that run, whatever function or program called them.

What comes to an activation exactly is told as such: `relu`, `clamp(min=0)`, `maximum(x, 0)`, `where(x > 0, x, 0)`,
`x * (x > 0)`, `x[x < 0] = 0`; what multiplies an input by a gate of its own (`x * sigmoid(x)`) as counted by sign. All
else that has the shape of a rectifier or gate is told by name, with the reason why it cannot be counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator

from reluscope.preactivations.activations import (
    LEAKY_RELU,
    OPERATIONS,
    OWN_BRANCH,
    RELU,
    THRESHOLD,
    Activation,
    own_gate,
)
from reluscope.preactivations.arithmetic import (
    Ancestry,
    Form,
    Forms,
    is_zero,
    mapped,
    number_in,
    parts_of,
    shared,
)
from reluscope.preactivations.image_flow import tensors_in


@dataclass(frozen=True)
class Finding:
    """An activation among the operations, or what has the shape of one.

    Attributes:
        function: the last part of a name for it.
        operation: what runs, in words.
        number: of the finding.
        activation: its kind, if it can be counted, of `preactivation` above `threshold`.
        reason: why it cannot be counted, else.
        parts: numbers of earlier findings that are parts of this one.
    """

    function: str
    operation: str
    number: int
    activation: Activation | None = None
    preactivation: Tensor | None = None
    threshold: float = 0.0
    reason: str = ""
    parts: frozenset[int] = frozenset()


_SATURATING = "it has no two sides to be on"
_SHAPES: dict[str, tuple[str, str]] = {
    **{name: (name, _SATURATING) for name in ("sigmoid", "tanh", "erf", "hardsigmoid", "atan", "erfc")},
    "log_sigmoid_forward": ("logsigmoid", _SATURATING),
    **{name: (name, "it bends at two places, and not to one side") for name in ("hardshrink", "softshrink")},
    "glu": ("glu", "one half of its input is the gate of the other"),
    "abs": ("abs", "its two sides are alike"),
    "sign": ("sign", "a step, with nothing linear"),
    "sgn": ("sign", "a step, with nothing linear"),
    "logaddexp": ("logaddexp", "it is smooth, and which of two is larger is no sign"),
}
"""Operations that have some shape of an activation, but that are never counted: a name, and why."""

_PLAIN = frozenset(
    [
        *("neg", "exp", "expm1", "exp2", "log", "log1p", "log2", "sqrt", "rsqrt", "pow", "square", "reciprocal"),
        *("sin", "cos", "round", "floor"),
    ]
)
_SAME = frozenset(["clone", "alias", "detach", "_to_copy", "contiguous", "lift_fresh", "to"])
_COMPARISONS = {"gt": (True, True), "ge": (True, False), "lt": (False, True), "le": (False, False)}
_BENDING = frozenset(["exp", "expm1", "exp2", "softplus", "log_sigmoid_forward"])

_FUSED = re.compile(r"relu|gelu|silu|swish|activation|_rnn|rnn_|lstm|gru|pointwise|transformer_encoder", re.IGNORECASE)
_GUARD = 1e-2
"""`clamp(min=...)` up to here keeps away from 0, and is no activation."""

_Outcome = tuple["Finding | None", dict[int, Form]]


class Operations:
    """Recognises activations, operation by operation.

    Args:
        depends: whether a tensor depends on the images.
    """

    def __init__(self, depends: Callable[[Tensor], bool]) -> None:
        self._depends = depends
        self._ancestry = Ancestry()
        self._found = 0
        self._rules: dict[str, Callable[[str, Sequence[Any], Mapping[str, Any]], _Outcome]] = {
            **dict.fromkeys(_COMPARISONS, self._comparison),
            **dict.fromkeys(["clamp", "clamp_min", "clamp_max"], self._clamp),
            **dict.fromkeys(["maximum", "fmax", "minimum", "fmin"], self._extremum),
            **dict.fromkeys(["mul", "div"], self._product),
            **dict.fromkeys(["add", "sub", "rsub"], self._sum),
            **dict.fromkeys(["where", "masked_fill", "index_put", "_index_put_impl"], self._selection),
            **dict.fromkeys(_SHAPES, self._shape),
            **dict.fromkeys(_PLAIN, self._plain),
            **dict.fromkeys(_SAME, self._same),
            "heaviside": self._heaviside,
            "bitwise_not": self._inverted,
            "logical_not": self._inverted,
        }

    def before(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        """What an operation is that is about to run on something of the images, and the forms of its result."""
        name = operation.__name__.partition(".")[0]
        plain = name.rstrip("_")
        first = args[0] if args else None
        if plain in OPERATIONS and isinstance(first, Tensor) and first.is_floating_point():
            kind = OPERATIONS[plain]
            found = self._find(kind.function, kind.function, kind, first, kind.threshold_of_call(args, kwargs))
            return found, {}
        if not any(self._depends(tensor) for tensor in tensors_in([args, kwargs])):
            return None, {}
        if rule := self._rules.get(plain):
            return rule(plain, args, kwargs) if isinstance(first, Tensor) else (None, {})
        is_program = isinstance(operation, HigherOrderOperator)
        if is_program or (_FUSED.search(name) and "backward" not in name):
            what = plain.strip("_")
            why = f"it runs as one {'program' if is_program else 'operation'}, which cannot be seen into"
            return self._find(what, what, reason=why), {}
        return None, {}

    def after(self, result: object, forms: Forms) -> None:
        """The operation has run."""
        if forms and isinstance(result, Tensor):
            self._ancestry.learn(result, forms)

    def _find(
        self,
        function: str,
        operation: str,
        activation: Activation | None = None,
        preactivation: Tensor | None = None,
        threshold: float = 0.0,
        reason: str = "",
        parts: frozenset[int] = frozenset(),
    ) -> Finding:
        self._found += 1
        return Finding(function, operation, self._found, activation, preactivation, threshold, reason, parts)

    def _forms(self, operand: object) -> dict[int, Form]:
        """Of a tensor that depends on the images; none of anything else."""
        if isinstance(operand, Tensor) and not operand.is_complex() and self._depends(operand):
            return self._ancestry.of(operand)
        return {}

    def _bends(self, operand: Tensor) -> bool:
        return operand.is_floating_point() and self._depends(operand)

    # rules: an operation's name, its arguments -> what it is, and the forms of its result

    def _same(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        forms, source, to = self._forms(args[0]), args[0].dtype, kwargs.get("dtype") or args[0].dtype
        if source == torch.bool and to.is_floating_point:
            return self._step("step", forms)
        return None, forms if to.is_floating_point or to == source else {}

    def _step(self, name: str, forms: Forms) -> _Outcome:
        """A mask becomes numbers."""
        masks = {number: form for number, form in forms.items() if form.kind == "mask"}
        if not masks:
            return None, {}
        found = self._find(name, name, reason="a step, with nothing linear", parts=parts_of(masks))
        return found, {
            number: Form(
                "mask",
                threshold=form.threshold,
                is_above=form.is_above,
                is_strict=form.is_strict,
                parts=form.parts | {found.number},
            )
            for number, form in masks.items()
        }

    def _plain(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        forms = self._forms(args[0])
        if name == "neg":
            return None, mapped(forms, lambda form: form.scaled(-1))
        if name == "log1p" and any(form.through == "exp" for form in forms.values()):
            found = self._find("softplus", "log(1 + exp(x))", reason="it is written out, and not piecewise linear")
            return found, mapped(forms, lambda form: form.bent("softplus", [found.number]))
        return None, mapped(forms, lambda form: form.bent(name if name in _BENDING else None))

    def _shape(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        if not self._bends(args[0]):
            return None, {}
        forms, (function, reason) = self._forms(args[0]), _SHAPES[name]
        found = self._find(function, function, reason=reason, parts=frozenset())
        through = None if name in ("abs", "sign", "sgn", "glu") else function
        return found, mapped(forms, lambda form: form.bent(through, [found.number]))

    def _comparison(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        left, right = args[0], args[1]
        is_above, is_strict = _COMPARISONS[name]
        if not isinstance(left, Tensor) or not self._bends(left):
            left, right, is_above = right, left, not is_above
        limit = number_in(right, self._depends)
        if not isinstance(left, Tensor) or not self._bends(left) or limit is None:
            return None, {}
        masks = {
            number: Form("mask", threshold=limit / form.factor, is_above=is_above, is_strict=is_strict)
            for number, form in self._forms(left).items()
            if form.kind == "multiple" and (limit == 0 or form.factor == 1)
        }
        return None, masks

    def _inverted(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        return None, {
            number: Form(
                "mask",
                threshold=form.threshold,
                is_above=not form.is_above,
                is_strict=not form.is_strict,
                parts=form.parts,
            )
            for number, form in self._forms(args[0]).items()
            if form.kind == "mask"
        }

    def _heaviside(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        if not self._bends(args[0]):
            return None, {}
        of = {
            number: Form("mask", parts=form.parts)
            for number, form in self._forms(args[0]).items()
            if form.kind == "multiple"
        }
        return self._step("heaviside", of)

    def _clamp(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        values = args[0]
        if not self._bends(values):
            return None, {}
        names = {"clamp": ("min", "max"), "clamp_min": ("min",), "clamp_max": ("max",)}[name]
        bounds = {**dict(zip(names, args[1:], strict=False)), **kwargs}
        low, high = bounds.get("min"), bounds.get("max")
        if high is None:
            return self._limit_from_below("clamp", values, low)
        number = number_in(low, self._depends) if low is not None else None
        shown = ", ".join(f"{key}={_shown(bounds[key])}" for key in ("min", "max") if bounds.get(key) is not None)
        why = "it may be a limit as well as an activation"
        found = self._find("clamp", f"clamp({shown})", reason=why)
        through = "clamp" if number is not None else None
        return found, mapped(self._forms(values), lambda form: form.bent(through, [found.number]))

    def _limit_from_below(self, function: str, values: Tensor, low: object) -> _Outcome:
        if is_zero(low, self._depends):
            return self._find(function, f"{function}(x, 0)", RELU, values), {}
        limit = number_in(low, self._depends)
        if limit is not None and 0 < limit <= _GUARD:
            return None, {}
        what = "a number other than 0" if limit is not None else "a tensor"
        why = f"its kink is at {what}, not at 0"
        return self._find(
            function, f"{function}(x, {_shown(low)})", reason=why, parts=parts_of(self._forms(values))
        ), {}

    def _extremum(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        one, other = args[0], args[1]
        if not isinstance(one, Tensor) or not self._depends(one):
            one, other = other, one
        if not isinstance(one, Tensor) or not self._bends(one):
            return None, {}
        is_upper = name in ("maximum", "fmax")
        if is_upper and not (isinstance(other, Tensor) and self._depends(other)):
            return self._limit_from_below(name, one, other)
        if not is_upper and not (isinstance(other, Tensor) and self._depends(other)):
            why = "it may be a limit as well as an activation"
            return self._find(name, f"{name}(x, {_shown(other)})", reason=why), {}
        for _, form, of_other in shared(self._forms(one), self._forms(other)):
            if is_upper and form.kind == of_other.kind == "multiple" and form.factor != of_other.factor:
                return self._find(name, f"{name}(x, a x)", LEAKY_RELU, one), {}
        return self._find(name, f"{name} of two tensors", reason="which of two tensors is larger is no sign"), {}

    def _sum(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        one, other = args[0], args[1]
        if not self._is_of_images(one) or not self._is_of_images(other):
            values = one if self._is_of_images(one) else other
            return None, mapped(self._forms(values), lambda form: form.bent("step" if form.kind == "mask" else None))
        pairs = shared(self._forms(one), self._forms(other))
        return None, {number: _both(form, of_other) for number, form, of_other in pairs}

    def _product(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        one, other = args[0], args[1]
        if not self._is_of_images(one) or not self._is_of_images(other):
            of_images, factor = (one, other) if self._is_of_images(one) else (other, one)
            number = number_in(factor, self._depends)
            if name == "div":
                if of_images is not one:
                    return None, mapped(self._forms(of_images), lambda form: form.bent(None))
                number = 1 / number if number else None
            return None, mapped(self._forms(of_images), lambda form: form.scaled(number))
        forms, of_other = self._forms(one), self._forms(other)
        pairs = [(one, *pair) for pair in shared(forms, of_other)]
        if name == "mul":
            pairs += [(other, *pair) for pair in shared(of_other, forms)]
        for values, _, form, gate in pairs:
            if (
                form.kind == "multiple"
                and values.is_floating_point()
                and (found := self._gated(name, values, form, gate))
            ):
                return found, {}
        for mask in (forms, of_other):
            if any(form.kind == "mask" for form in mask.values()):
                why = "a gate by the sign of another tensor"
                return self._find(name, "product with a mask", reason=why, parts=parts_of(mask)), {}
        return None, {number: _both(form, gate) for _, number, form, gate in pairs}

    def _gated(self, name: str, values: Tensor, form: Form, gate: Form) -> Finding | None:
        """A multiple of x times a mask or function of x."""
        if gate.kind == "mask" and name == "mul":
            if gate.is_above and gate.threshold == 0:
                return self._find("mul", "x * (x > 0)", RELU, values, parts=gate.parts)
            if gate.is_above and gate.is_strict and form.factor == 1:
                return self._find("mul", "x * (x > a)", THRESHOLD, values, gate.threshold, parts=gate.parts)
            why = "it passes what is below"
            return self._find("mul", "product with a mask", reason=why, parts=gate.parts)
        if gate.kind == "function" and gate.through is not None:
            kind = own_gate(gate.through)
            return self._find(kind.function, kind.name, kind, values, parts=gate.parts)
        return None

    def _selection(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Outcome:
        if name == "where":
            if len(args) < 3:
                return None, {}
            mask, then, otherwise = args[:3]
        elif name == "masked_fill":
            otherwise, mask, then = args[:3]
        else:
            otherwise, indices, then = args[:3]
            mask = indices[0] if len(indices) == 1 else None
            accumulates = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
            mask = None if accumulates else mask
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            return None, {}
        masks = {number: form for number, form in self._forms(mask).items() if form.kind == "mask"}
        if not masks or not any(isinstance(v, Tensor) and v.is_floating_point() for v in (then, otherwise)):
            return None, {}
        for number, form in masks.items():
            above, below = (then, otherwise) if form.is_above else (otherwise, then)
            if found := self._branches(name, number, form, above, below):
                return found, {}
        why = "a choice by the sign of another tensor, or of values that are not its own"
        return self._find(name, f"{name} by a mask", reason=why, parts=parts_of(masks)), {}

    def _branches(self, name: str, number: int, mask: Form, above: object, below: object) -> Finding | None:
        """What is x above the threshold, and something else below."""
        form = self._forms(above).get(number)
        if form is None or form.kind != "multiple":
            return None
        assert isinstance(above, Tensor)
        of_below = self._forms(below).get(number)
        parts = mask.parts | (of_below.parts if of_below is not None else frozenset())
        if mask.threshold == 0:
            if is_zero(below, self._depends):
                return self._find(name, f"{name} (x > 0)", RELU, above, parts=parts)
            if of_below is not None and of_below.kind in ("multiple", "linear"):
                return self._find(name, f"{name} (x > 0)", LEAKY_RELU, above, parts=parts)
            if of_below is not None and of_below.through is not None:
                return self._find(OWN_BRANCH.function, OWN_BRANCH.name, OWN_BRANCH, above, parts=parts)
            return None
        is_open = mask.is_strict == mask.is_above  # the threshold itself is below, as in torch's threshold
        if is_open and form.factor == 1 and number_in(below, self._depends) is not None:
            return self._find(name, f"{name} (x > a)", THRESHOLD, above, mask.threshold, parts=parts)
        return None

    def _is_of_images(self, operand: object) -> bool:
        return isinstance(operand, Tensor) and self._depends(operand)


def _both(one: Form, other: Form) -> Form:
    """A function of two functions of one tensor."""
    bends = [form.through or ("step" if form.kind == "mask" else None) for form in (one, other)]
    through = next((name for name in bends if name), None)
    return Form("function", through=through, parts=one.parts | other.parts)


def _shown(value: object) -> str:
    return "tensor" if isinstance(value, Tensor) and value.numel() > 1 else f"{float(value):g}"  # type: ignore[arg-type]
