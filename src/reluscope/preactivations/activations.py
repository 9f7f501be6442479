"""What counts as an activation, called as a module or as a function, and where the threshold of its bit lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class Activation:
    """A kind of activation. A bit of its pattern is 1 where the input, the pre-activation, is above a threshold.

    Attributes:
        module: its class; subclasses count too.
        function: its name as a function, which torch, torch.nn.functional or Tensor has, with an underscore in place.
        is_piecewise_linear: a bit tells on which side of the (lowest) kink the input is; otherwise only its sign.
        threshold_name: the function's second argument and the module's attribute that holds the threshold; 0 without.
        default_threshold: where that argument is not given.
        in_words: its name where it is no class of torch.
    """

    module: type[nn.Module]
    function: str
    is_piecewise_linear: bool = True
    threshold_name: str | None = None
    default_threshold: float = 0.0
    in_words: str | None = None

    @property
    def name(self) -> str:
        return self.in_words or self.module.__name__

    def bit(self, threshold: float) -> str:
        """What a bit means, in words."""
        if self.is_piecewise_linear:
            return f"input of {self.name} > {threshold:g}"
        return f"sign of the input of {self.name}"

    def threshold_of_module(self, module: nn.Module) -> float:
        return float(getattr(module, self.threshold_name)) if self.threshold_name else 0.0

    def threshold_of_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        if self.threshold_name is None:
            return 0.0
        return float(args[1] if len(args) > 1 else kwargs.get(self.threshold_name, self.default_threshold))


ACTIVATIONS: tuple[Activation, ...] = (
    Activation(nn.ReLU, "relu"),
    Activation(nn.LeakyReLU, "leaky_relu"),
    Activation(nn.PReLU, "prelu"),
    Activation(nn.RReLU, "rrelu"),
    Activation(nn.ReLU6, "relu6"),  # before Hardtanh, of which torch derives it
    Activation(nn.Hardtanh, "hardtanh", threshold_name="min_val", default_threshold=-1.0),
    Activation(nn.Threshold, "threshold", threshold_name="threshold"),
    *(
        Activation(module, function, is_piecewise_linear=False)
        for module, function in (
            (nn.GELU, "gelu"),
            (nn.SiLU, "silu"),
            (nn.Mish, "mish"),
            (nn.Hardswish, "hardswish"),
            (nn.ELU, "elu"),
            (nn.SELU, "selu"),
            (nn.CELU, "celu"),
            (nn.Softplus, "softplus"),
        )
    ),
)
"""All kinds that are known. Of those with two kinks, ReLU6 and Hardtanh, the lower one is the threshold. Not among them
are functions without two sides to be on (sigmoid, tanh, softmax, gated units, shrinkage). Arithmetic that comes to one
of them (clamp, maximum, where, ...) is found by `operations`."""

_KIND = {activation.function: activation for activation in ACTIVATIONS}

RELU, LEAKY_RELU, THRESHOLD = _KIND["relu"], _KIND["leaky_relu"], _KIND["threshold"]

OPERATIONS: dict[str, Activation] = {
    **_KIND,
    "_prelu_kernel": _KIND["prelu"],
    "rrelu_with_noise": _KIND["rrelu"],
    "_leaky_relu": _KIND["leaky_relu"],
}
"""The kind that each operation of torch is, as it runs below its functions, by name; selu and celu run as elu."""


def own_gate(function: str) -> Activation:
    """The kind that multiplies an input by a function of itself, like SiLU, written by hand."""
    return Activation(nn.Module, f"{function}_gate", is_piecewise_linear=False, in_words=f"self-gate ({function})")


OWN_BRANCH = Activation(nn.Module, "where", is_piecewise_linear=False, in_words="where(x > 0, x, f(x))")
"""The kind that is the identity above 0, and some other function below, like ELU, written by hand."""


def activation_of(module: nn.Module) -> Activation | None:
    """The kind of activation that a module is, if it is one."""
    return next((activation for activation in ACTIVATIONS if isinstance(module, activation.module)), None)


def runs_as_torch_has_it(module: nn.Module) -> bool:
    """Whether an activation module's input is that of its function: not where its forward function is its own."""
    function = getattr(module.forward, "__func__", None)
    return getattr(function, "__module__", None) == nn.ReLU.__module__ and "forward" not in vars(module)


def _functions(activation: Activation) -> list[Callable[..., Any]]:
    names = (activation.function, f"{activation.function}_")
    return [getattr(home, name) for home in (torch, F, Tensor) for name in names if hasattr(home, name)]


ACTIVATION_FUNCTIONS: dict[Callable[..., Any], Activation] = {
    function: activation for activation in ACTIVATIONS for function in _functions(activation)
}
"""The kind that each function or method of torch is."""
