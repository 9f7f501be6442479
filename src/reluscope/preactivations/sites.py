"""Finds every call of an activation in a forward pass, whatever way it is called.

The first pass of several sees every operation that runs, and learns which layers there are, which of them depend on the
images, and which axis holds their channels. Later passes see as little as they need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reluscope.preactivations.activations import (
    ACTIVATION_FUNCTIONS,
    Activation,
    activation_of,
    runs_as_torch_has_it,
)
from reluscope.preactivations.channels import ChannelAxes
from reluscope.preactivations.choice import LayerChoice
from reluscope.preactivations.eager import nothing_fused
from reluscope.preactivations.image_flow import ImageFlow
from reluscope.preactivations.not_counted import (
    BY_SIGN,
    ELSEWHERE,
    FURTHER,
    LEFT_OUT,
    NO_IMAGES,
    OTHER_THREAD,
    UNSEEN,
    NotCounted,
)
from reluscope.preactivations.operations import Finding, Operations
from reluscope.preactivations.probe import Probe, probing_new_threads
from reluscope.preactivations.site import ModuleCall, Site, Visit
from reluscope.preactivations.transforms import outside, readable


@contextmanager
def observe(network: nn.Module, visit: Visit, choice: LayerChoice | None = None) -> Iterator[None]:
    """Calls `visit(site, preactivation)` for each activation of the one forward pass made inside.

        with observe(network, visit):
            network(batch)

    An activation is a call of a module or function of `ACTIVATIONS`, or operations that come to one (`operations`);
    what an activation module calls in turn is part of it. Where such a module has a forward function of its own, the
    first activation in it is the layer. What does not depend on the images is no layer.

    A layer is named after its module; a module that is called again gives another layer, named like torchvision's
    feature extraction: "layer1.0.relu", then "layer1.0.relu_1". A function is named after the module that calls it:
    "layers.0.relu", then "layers.0.relu_1"; no function takes the name of a module. `visit` must consume the tensor
    before it returns: an in-place activation overwrites it right after. An exception in `visit` ends the forward pass.

    Inside, torch.compile compiles nothing and torch's transformer layers take no fused fast path, which would call no
    activation. A module of TorchScript is refused.

    Args:
        choice: which layers are visited; without it all that are piecewise linear.

    Raises:
        ValueError: the pass called no activation, the choice does not fit what it called, it cannot be told which axis
            holds the channels, or a module is compiled by TorchScript.
    """
    with watched(network, choice) as watcher, watcher.forward_pass(visit):
        yield


@contextmanager
def watched(network: nn.Module, choice: LayerChoice | None = None, *, lists: bool = False) -> Iterator[Watcher]:
    """`observe` for several forward passes, each inside a `Watcher.forward_pass`.

    Args:
        lists: no layer is refused; all that is no layer is in `Watcher.not_counted`, with the reason.
    """
    modules = dict(network.named_modules())
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{name or type(network).__name__}: expected a module whose calls can be seen, but it is compiled by "
                f"TorchScript; give the module that it was made of"
            )
    watcher = Watcher(network, choice or LayerChoice(), lists=lists)
    with nothing_fused(), ExitStack() as hooks:
        for name, module in modules.items():
            before, after = watcher.hooks(name, module)
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield watcher
    watcher.require_use()


class Watcher(TorchFunctionMode):
    """Sees the calls of functions by itself, those of modules by its hooks, and operations by a `Probe`.

    Attributes:
        found: the kind of activation of every layer that any pass called, taken or not, by its name.
        not_counted: what the first pass called and visited no layer for, unless the choice leaves it out by name.
        num_calls: in the last pass, of each activation module, and of each function by one module, named with `()`.
    """

    def __init__(self, network: nn.Module, choice: LayerChoice, *, lists: bool = False) -> None:
        super().__init__()
        self._network, self._choice, self._lists = network, choice, lists
        self._module_names = {_readable(name, module) for name, module in network.named_modules()}
        self.found: dict[str, Activation] = {}
        self.not_counted: list[NotCounted] = []
        self.num_calls: Mapping[str, int] = {}
        self._taken: dict[tuple[str, Activation], bool] = {}  # what the choice said
        self._is_learning = True
        self._forget()
        self._begin(None)

    def _forget(self) -> None:
        """What a pass that learns finds out."""
        self._axis_of: dict[str, int] = {}  # of each layer that was visited
        self._has_hidden = False  # layers that only a probe sees, or may be met in other batches
        self._no_layers: set[str] = set()
        self._other_names: set[str] = set()  # of what was noted, whether of interest or not

    def _begin(self, visit: Visit | None) -> None:
        self._visit = visit
        self._found: dict[str, Activation] = {}  # all layers met, chosen or not
        self._noted: dict[object, NotCounted] = {}
        self._num_visited = 0
        self._num_calls: Counter[str] = Counter()
        self._axes = ChannelAxes()
        self._flow: ImageFlow | None = None
        self._operations: Operations | None = None
        self._callers: list[str] = []  # paths of the modules that are being called, outermost first
        self._within: list[ModuleCall] = []
        self._functions = self._activations = 0  # functions of torch that are being called
        self._is_busy = False  # with what is no part of the network

    @contextmanager
    def forward_pass(self, visit: Visit, *, learns: bool = False, probes: bool = False) -> Iterator[None]:
        """Around one forward pass; the first one learns, and any that is told to learns anew.

        Args:
            probes: sees every operation, because the pass may call what the first one did not.
        """
        self._begin(visit)
        self._is_learning |= learns
        if self._is_learning:
            self._forget()
        try:
            with ExitStack() as modes:
                if self._is_learning or self._has_hidden or probes:
                    self._flow = ImageFlow(self._network)
                    self._operations = Operations(self._flow.depends)
                    modes.enter_context(Probe(self.before_operation, self.after_operation))
                if self._is_learning:
                    modes.enter_context(probing_new_threads(self.before_operation, self.after_operation))
                modes.enter_context(self)
                yield
            if self._is_learning:
                self.not_counted = list(dict.fromkeys(self._noted.values()))
            self._has_hidden |= self._flow is not None and self._flow.decides
            self.num_calls = self._num_calls
            layers = {name: kind for name, kind in self._found.items() if name not in self._no_layers}
            if not self._lists:
                self._choice.require_layers(layers, self.not_counted)
            self._is_learning = False
        finally:
            self.found |= self._found
            self._begin(None)

    def require_use(self) -> None:
        """Refuse patterns of the choice that matched nothing in any pass; not before the last one has ended."""
        self._choice.require_use(self.found, self._other_names)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        activation = ACTIVATION_FUNCTIONS.get(func)
        if activation is not None:
            threshold = activation.threshold_of_call(args, kwargs)
            self._call(self._of_caller(activation.function), activation, threshold, _first(args, kwargs))
        if self._flow is not None and self._flow.leave(func, args):
            name = self._of_caller(func.__name__.strip("_"))
            self._note(name, NotCounted(name, f"Tensor.{func.__name__}", ELSEWHERE))
        self._functions += 1
        self._activations += activation is not None
        try:
            result = func(*args, **kwargs)
        finally:
            self._functions -= 1
            self._activations -= activation is not None
        busy, self._is_busy = self._is_busy, True
        self._axes.follow(func, args, kwargs, result)
        self._is_busy = busy
        return result

    def before_operation(
        self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, elsewhere: bool = False
    ) -> Any:
        """To be called before each operation that runs; what it returns is for `after_operation`."""
        if self._is_busy or self._operations is None:
            return None
        with self._own_work():
            if self._activations and not elsewhere:
                return {}
            finding, forms = self._operations.before(operation, args, kwargs)
            if finding is not None:
                self._find(finding, elsewhere)
        return forms

    def after_operation(
        self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: object, forms: Any
    ) -> None:
        """To be called after each operation that runs."""
        if self._is_busy or self._operations is None or self._flow is None or forms is None:
            return
        with self._own_work():
            self._flow.follow(operation, args, kwargs, result)
            self._operations.after(result, forms)
            if not self._functions:
                self._axes.follow(operation, args, kwargs, result)

    def hooks(self, path: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        """To be called before and after the module's forward function."""
        activation, own_name = activation_of(module), _readable(path, module)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not path and self._flow is not None:
                self._flow.begin([args, kwargs])
            if activation is not None:
                self._call_module(own_name, activation, module, _first(args, kwargs))
            self._callers.append(path)

        def after(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            while self._callers.pop() != path:  # those that an exception ended, if the network went on after it
                pass
            while self._within and len(self._callers) <= self._within[-1].depth:
                if not (ended := self._within.pop()).is_met:
                    self._note(ended.name, NotCounted(ended.name, type(module).__name__, UNSEEN))

        return before, after

    def _call_module(self, name: str, activation: Activation, module: nn.Module, values: Tensor) -> None:
        is_own, depth = not runs_as_torch_has_it(module), len(self._callers)
        threshold = activation.threshold_of_module(module)
        if not self._within:
            self._within.append(ModuleCall(depth, name, is_own, is_met=False))
            if not is_own:
                self._call(name, activation, threshold, values)
        elif self._within[-1].is_own and not is_own:
            self._call(name, activation, threshold, values)
            self._within.append(ModuleCall(depth, name, is_own=False, is_met=True))

    def _find(self, finding: Finding, elsewhere: bool) -> None:
        for part in finding.parts:
            self._noted.pop(part, None)
        if self._within and not self._within[-1].is_own:
            return
        name = self._of_caller(finding.function)
        if finding.activation is not None and finding.preactivation is not None and not elsewhere:
            self._call(name, finding.activation, finding.threshold, finding.preactivation, finding)
            return
        reason = OTHER_THREAD if elsewhere else finding.reason
        self._note(finding.number, NotCounted(self._free_name(name), finding.operation, reason))

    def _of_caller(self, function: str) -> str:
        caller = self._callers[-1] if self._callers else ""
        return f"{caller}.{function}" if caller else function

    def _call(
        self, name: str, activation: Activation, threshold: float, values: Tensor, finding: Finding | None = None
    ) -> None:
        """An activation is called: a layer, or a part of the activation module that calls it."""
        if not self._within:
            self._num_calls[f"{name}()"] += 1
            self._meet(self._free_name(name), activation, threshold, values, finding)
            return
        module = self._within[-1]
        if not module.is_met:
            module.is_met = True
            self._num_calls[module.name] += 1
            self._meet(self._free_name(module.name, module.name), activation, threshold, values, finding)
        elif module.is_own:
            self._note(name, NotCounted(name, activation.name, FURTHER))

    def _free_name(self, name: str, own_name: str | None = None) -> str:
        """The first of `name`, `name`_1, `name`_2, ... that names nothing else; a module has its own name first."""
        candidate, calls = name, 0
        while candidate in self._found or (candidate in self._module_names and candidate != own_name):
            calls += 1
            candidate = f"{name}_{calls}"
        return candidate

    def _meet(
        self, name: str, activation: Activation, threshold: float, values: Tensor, finding: Finding | None
    ) -> None:
        self._found[name] = activation
        if self._visit is None or name in self._no_layers:
            return
        operation = activation.name if finding is None else finding.operation
        if (name, activation) not in self._taken:
            self._taken[name, activation] = self._choice.takes(name, activation)
        if not self._taken[name, activation]:
            reason = BY_SIGN if self._choice.leaves_to_signs(name, activation) else LEFT_OUT
            self._note(name, NotCounted(name, operation, reason))
            return
        try:
            with torch._C.DisableTorchFunction(), self._own_work():
                is_layer = self._visit_one(name, activation, threshold, values, finding)
        except ValueError as error:
            if not self._lists and (finding is None or not self._is_learning):
                raise
            reason = str(error).removeprefix(f"Layer {name!r}: ")
            self._note(name, NotCounted(name, operation, reason), is_no_layer=True)
            return
        if not is_layer:
            self._note(name, NotCounted(name, operation, NO_IMAGES), is_no_layer=True)
            return
        self._has_hidden |= finding is not None
        self._num_visited += 1

    def _visit_one(
        self, name: str, activation: Activation, threshold: float, given: Tensor, finding: Finding | None
    ) -> bool:
        """Visit a layer, if its input depends on the images; whether it does."""
        assert self._visit is not None
        values = readable(name, given)
        if self._is_learning and self._flow is not None and not self._flow.depends(values):
            return False
        if finding is not None and self._is_learning and not self._may_hold_images(values):
            raise ValueError(f"no axis of its input, of shape {list(values.shape)}, holds the images")
        axis = self._channel_axis(name, given)
        with outside():
            self._visit(Site(self._num_visited, name, activation, threshold, axis), values)
        self._axis_of[name] = axis
        return True

    def _may_hold_images(self, values: Tensor) -> bool:
        """Whether one of the first two axes may hold the images."""
        num_images = 1 if self._flow is None else self._flow.num_images
        return any(size >= num_images and size % num_images == 0 for size in values.shape[:2])

    def _note(self, key: object, one: NotCounted, *, is_no_layer: bool = False) -> None:
        if not self._is_learning:
            return
        self._other_names.add(one.name)
        if is_no_layer:
            self._no_layers.add(one.name)
        if self._choice.mentions(one.name):
            self._noted[key] = one
        elif self._lists:
            self._noted[key] = replace(one, reason=LEFT_OUT)

    @contextmanager
    def _own_work(self) -> Iterator[None]:
        """What is done inside is no part of the network."""
        before, self._is_busy = self._is_busy, True
        try:
            yield
        finally:
            self._is_busy = before

    def _channel_axis(self, name: str, preactivation: Tensor) -> int:
        given = self._choice.axis_of(name)
        if given is None and name in self._axis_of:
            return self._axis_of[name]
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


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def _readable(path: str, module: nn.Module) -> str:
    return path or type(module).__name__.lower()
