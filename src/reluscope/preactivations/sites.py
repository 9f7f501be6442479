"""Finds every call of an activation in a forward pass, whatever way it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reluscope.preactivations.activations import ACTIVATION_FUNCTIONS, Activation, activation_of
from reluscope.preactivations.channels import ChannelAxes
from reluscope.preactivations.choice import LayerChoice
from reluscope.preactivations.transforms import outside, readable


@dataclass(frozen=True)
class Site:
    """One call of an activation in a forward pass: a layer.

    Attributes:
        index: among the chosen layers in forward order, from 0.
        name: readable, and the same in every pass that makes the same calls.
        activation: what is called.
        threshold: a bit is 1 where the pre-activation is above it.
        channel_axis: the pre-activation's axis of channels, from 0.
    """

    index: int
    name: str
    activation: Activation
    threshold: float
    channel_axis: int

    @property
    def bit(self) -> str:
        """What a bit means, in words."""
        return self.activation.bit(self.threshold)


Visit = Callable[[Site, Tensor], None]
"""Takes a layer and its pre-activation, of any shape and dtype."""


@contextmanager
def observe(network: nn.Module, visit: Visit, choice: LayerChoice | None = None) -> Iterator[None]:
    """Calls `visit(site, preactivation)` for each activation of the one forward pass made inside.

        with observe(network, visit):
            network(batch)

    An activation is a call of a module or function of `ACTIVATIONS`; what an activation module calls in turn is part of
    it. A layer is named after its module; a module that is called again gives another layer, named like torchvision's
    feature extraction: "layer1.0.relu", then "layer1.0.relu_1". A function is named after the module that calls it:
    "layers.0.relu", then "layers.0.relu_1"; no function takes the name of a module. `visit` must consume the tensor
    before it returns: an in-place activation overwrites it right after. An exception in `visit` ends the forward pass.

    Inside, torch.compile compiles nothing and torch's transformer layers take no fused fast path, which would call no
    activation. Code of TorchScript shows none of its calls: a module of it is refused, a lone function goes unseen.

    Args:
        choice: which layers are visited; without it all that are piecewise linear.

    Raises:
        ValueError: the pass called no activation, the choice does not fit what it called, it cannot be told which axis
            holds the channels, or a module is compiled by TorchScript.
    """
    with watched(network, choice) as watcher, watcher.forward_pass(visit):
        yield


@contextmanager
def watched(network: nn.Module, choice: LayerChoice | None = None) -> Iterator[Watcher]:
    """`observe` for several forward passes, each inside a `Watcher.forward_pass`."""
    modules = dict(network.named_modules())
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{name or type(network).__name__}: expected a module whose calls can be seen, but it is compiled by "
                f"TorchScript; give the module that it was made of"
            )
    watcher = Watcher(choice or LayerChoice(), {_readable(name, module) for name, module in modules.items()})
    with _nothing_fused(), ExitStack() as hooks:
        for name, module in modules.items():
            before, after = watcher.hooks(name, module)
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield watcher
    watcher.require_use()


class Watcher(TorchFunctionMode):
    """Sees the calls of functions by itself, and those of modules by its hooks."""

    def __init__(self, choice: LayerChoice, module_names: set[str]) -> None:
        super().__init__()
        self._choice, self._module_names = choice, module_names
        self._found_ever: dict[str, Activation] = {}  # in all passes
        self._begin(None)

    def _begin(self, visit: Visit | None) -> None:
        self._visit = visit
        self._found: dict[str, Activation] = {}  # all layers met, chosen or not
        self._num_visited = 0
        self._axes = ChannelAxes()
        self._callers: list[str] = []  # paths of the modules that are being called, outermost first
        self._within: int | None = None  # how many of these there were when an activation module was called

    @contextmanager
    def forward_pass(self, visit: Visit) -> Iterator[None]:
        self._begin(visit)
        try:
            with self:
                yield
            self._choice.require_layers(self._found)
        finally:
            self._found_ever |= self._found
            self._begin(None)

    def require_use(self) -> None:
        """Refuse patterns of the choice that matched nothing in any pass; not before the last one has ended."""
        self._choice.require_use(self._found_ever)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        activation = ACTIVATION_FUNCTIONS.get(func)
        if activation is not None and self._within is None:
            caller = self._callers[-1] if self._callers else ""
            name = self._free_name(f"{caller}.{activation.function}" if caller else activation.function)
            self._meet(name, activation, activation.threshold_of_call(args, kwargs), args, kwargs)
        result = func(*args, **kwargs)
        self._axes.follow(func, args, kwargs, result)
        return result

    def hooks(self, path: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        """To be called before and after the module's forward function."""
        activation, own_name = activation_of(module), _readable(path, module)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if activation is not None and self._within is None:
                self._within = len(self._callers)
                name = self._free_name(own_name, own_name)
                self._meet(name, activation, activation.threshold_of_module(module), args, kwargs)
            self._callers.append(path)

        def after(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            while self._callers.pop() != path:  # those that an exception ended, if the network went on after it
                pass
            if self._within is not None and len(self._callers) <= self._within:
                self._within = None

        return before, after

    def _free_name(self, name: str, own_name: str | None = None) -> str:
        """The first of `name`, `name`_1, `name`_2, ... that names nothing else; a module has its own name first."""
        candidate, calls = name, 0
        while candidate in self._found or (candidate in self._module_names and candidate != own_name):
            calls += 1
            candidate = f"{name}_{calls}"
        return candidate

    def _meet(
        self, name: str, activation: Activation, threshold: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._found[name] = activation
        if self._visit is None or not self._choice.takes(name, activation):
            return
        preactivation = args[0] if args else next(iter(kwargs.values()))
        with torch._C.DisableTorchFunction():  # what is done with the tensor is no part of the network
            values = readable(name, preactivation)
            axis = self._channel_axis(name, preactivation)
            with outside():
                self._visit(Site(self._num_visited, name, activation, threshold, axis), values)
        self._num_visited += 1

    def _channel_axis(self, name: str, preactivation: Tensor) -> int:
        given = self._choice.axis_of(name)
        if given is None:
            try:
                return self._axes.of(preactivation)
            except ValueError as error:
                raise ValueError(f"Layer {name!r}: {error}") from error
        if not -preactivation.ndim <= given < preactivation.ndim:
            raise ValueError(
                f"channel_axis: expected an axis of layer {name!r}, whose shape is {list(preactivation.shape)}, "
                f"but got {given}"
            )
        return given % preactivation.ndim


def _readable(path: str, module: nn.Module) -> str:
    return path or type(module).__name__.lower()


@contextmanager
def _nothing_fused() -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if "torch._dynamo" in sys.modules:  # without it nothing was compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
