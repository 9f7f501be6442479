"""What a network holds, wherever its modules keep it, so that a forward pass can be undone."""

from __future__ import annotations

import enum
import pickle
import random
import types
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from operator import is_
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from reluscope.preactivations.tensor_contents import Contents, TensorCell
from reluscope.preactivations.warned import listed, tell

_MOST_CELLS = 20_000  # of objects that are not modules: who holds more holds something else than a network's state

_CONSTANT = (
    *(type(None), bool, int, float, complex, str, bytes, type, enum.Enum, np.generic, np.dtype),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
)
_FOREIGN = frozenset(
    [
        *("asyncio", "concurrent", "functools", "io", "logging", "multiprocessing", "queue", "socket", "threading"),
        *("lightning", "lightning_fabric", "pytorch_lightning", "torch", "tqdm", "weakref"),
    ]
)
"""Packages whose objects hold something else than a network's state."""

_OUTSIDE = (torch.utils.data.Dataset, torch.utils.data.DataLoader, torch.optim.Optimizer)
"""What a module may know of its training, and no forward pass changes."""


class _Cell(Protocol):
    def put_back(self) -> None: ...


class _Mapped:
    """A dict, also that of a module's or another object's attributes."""

    def __init__(self, held: dict[Any, Any]) -> None:
        self._held, self._saved = held, dict(held)
        self._values = list(_values(self._saved))
        self._kind = OrderedDict if isinstance(held, OrderedDict) else dict  # past what a subclass overrides

    def put_back(self) -> None:
        held, saved = self._held, self._saved
        if len(held) != len(saved) or not all(map(is_, held, saved)) or not all(map(is_, _values(held), self._values)):
            self._kind.clear(held)
            self._kind.update(held, saved)


class _Empty:
    """Dicts that held nothing, as most of a module's hooks do."""

    def __init__(self, held: Sequence[dict[Any, Any]]) -> None:
        self._held = held

    def put_back(self) -> None:
        for each in self._held:
            each.clear()


class _Listed:
    """A list or deque."""

    def __init__(self, held: list[Any] | deque[Any]) -> None:
        self._held, self._saved = held, list(held)

    def put_back(self) -> None:
        if len(self._held) != len(self._saved) or not all(map(is_, self._held, self._saved)):
            self._held.clear()
            self._held.extend(self._saved)


class _Plain:
    """A set or bytearray, whose items are equal or not."""

    def __init__(self, held: set[Any] | bytearray) -> None:
        self._held, self._saved = held, held.copy()

    def put_back(self) -> None:
        if self._held != self._saved:
            self._held.clear()
            if isinstance(self._held, set):
                self._held.update(self._saved)
            else:
                self._held.extend(self._saved)


class _Slots:
    """Attributes of an object that has no dict for them."""

    def __init__(self, held: object, names: Sequence[str]) -> None:
        self._held, self._saved = held, {name: getattr(held, name) for name in names if hasattr(held, name)}

    def put_back(self) -> None:
        for name, value in self._saved.items():
            if getattr(self._held, name, self) is not value:
                object.__setattr__(self._held, name, value)


class _State:
    """A random generator, by its state."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], object]) -> None:
        self._saved, self._get, self._put = get(), get, put

    @property
    def has_moved(self) -> bool:
        now, saved = self._get(), self._saved
        return not torch.equal(now, saved) if isinstance(now, Tensor) else pickle.dumps(now) != pickle.dumps(saved)

    def put_back(self) -> None:
        self._put(self._saved)


class _Array:
    def __init__(self, held: np.ndarray[Any, Any]) -> None:
        self._held, self._saved = held, held.copy()

    def put_back(self) -> None:
        if self._held.tobytes() != self._saved.tobytes():
            self._held[...] = self._saved


class Found:
    """A network as it was found.

    Put back are: what the attributes of its modules hold, with parameters, buffers, submodules, hooks and modes among
    them; content, gradient and `requires_grad` of every tensor; what lists, dicts, sets, deques and objects hold that
    are reached from there; NumPy arrays, and random generators. What else was reached and changed is named.

    Attributes:
        unknown: what changed and could not be put back.
        drawing: random generators of the network's own that were drawn from.
    """

    def __init__(self, network: nn.Module) -> None:
        self._cells: list[_Cell] = []
        self._rare: list[_Cell] = []  # hooks: a dozen dicts of each module
        self._tensors: list[TensorCell] = []
        self._generators: dict[str, _State] = {}
        self._opaque: dict[str, tuple[object, object]] = {}  # where it is: what, and how it was
        self._contents = Contents()
        self._is_partial = False
        self._walk(network)
        self._contents.copy()
        self.unknown: list[str] = []
        self.drawing: list[str] = []

    def put_back(self) -> None:
        """Before each forward pass and after the last one; what did not change costs next to nothing.

        Raises:
            ValueError: a tensor changed of which there was no room to keep a copy.
        """
        for cell in self._cells:
            cell.put_back()
        self._contents.put_back([tensor.content for tensor in self._tensors if tensor.put_back()])

    def look_closely(self) -> None:
        """Compare all contents with their copies, because a write through `.data` leaves no other trace."""
        for cell in self._rare:
            cell.put_back()
        moved = {name for name, own in self._generators.items() if own.has_moved}
        self.drawing = sorted({*self.drawing, *moved})
        self._contents.compare()
        self.put_back()
        changed = [where for where, (held, before) in self._opaque.items() if _mark(held) != before]
        self.unknown += [where for where in changed if where not in self.unknown]

    def tell_unknown(self) -> None:
        """Name what changed and cannot be put back, if anything did; say so where not all was looked at."""
        if self._is_partial:
            tell(
                f"the network's attributes lead to more than {_MOST_CELLS:,} objects: what a forward pass changes of "
                "others stays changed"
            )
        if self.unknown:
            kinds = [f"{where} ({type(self._opaque[where][0]).__name__})" for where in self.unknown]
            tell(
                f"the forward pass changes what cannot be put back: {listed(kinds)}; the network is not as it was "
                "found, and counts may depend on the order of the batches"
            )

    @contextmanager
    def first_pass(self) -> Iterator[None]:
        """Around a forward pass whose writes to tensors too large to be copied are seen before they happen."""
        with _Writes(self._contents) if self._contents.are_missing else nullcontext():
            yield
        self.look_closely()

    def _walk(self, network: nn.Module) -> None:
        most = _MOST_CELLS + 4 * sum(1 for _ in network.modules())  # the dicts of a module are its own
        seen: dict[int, object] = {}  # holding what was met, so that no id is given twice
        waiting: list[tuple[str, object]] = [(name, module) for name, module in network.named_modules()][::-1]
        while waiting:
            where, held = waiting.pop()
            if isinstance(held, _CONSTANT) or id(held) in seen:
                continue
            seen[id(held)] = held
            if not isinstance(held, nn.Module | nn.Parameter) and len(self._cells) + len(self._tensors) > most:
                self._is_partial = True
                continue
            waiting.extend(self._take(where, held))

    def _take(self, where: str, held: Any) -> Iterable[tuple[str, object]]:
        """Keep one object as it is; what it holds."""
        if isinstance(held, Tensor):
            return self._take_tensor(where, held)
        if isinstance(held, tuple | frozenset):
            return [(where, item) for item in held]
        if (cell := _cell_of_container(held)) is not None:
            (self._rare if "_hooks" in where.rpartition(".")[2] else self._cells).append(cell)
            inner = [(where, vars(held))] if hasattr(held, "__dict__") else []
            return [*_items(where, held), *inner]
        if isinstance(held, np.ndarray):
            if held.flags.writeable and not held.dtype.hasobject and self._contents.has_room(held.nbytes):
                self._cells.append(_Array(held))
            return []
        if (state := _state_of(held)) is not None:
            self._cells.append(state)
            self._generators[_readable(where)] = state
            return []
        if isinstance(held, nn.Module):
            attributes = vars(held)
            self._cells.append(_Mapped(attributes))
            empty = {name: value for name, value in attributes.items() if "_hooks" in name and value == {}}
            self._rare.append(_Empty(list(empty.values())))
            return [(f"{where}.{name}", value) for name, value in attributes.items() if name not in empty]
        return self._take_object(where, held)

    def _take_tensor(self, where: str, held: Tensor) -> Iterable[tuple[str, object]]:
        if is_traceable_wrapper_subclass(held):
            return [(where, getattr(held, name)) for name in held.__tensor_flatten__()[0]]  # type: ignore[attr-defined]
        if held.layout is torch.strided and held.device.type != "meta" and not _is_wrapped(held):
            self._tensors.append(TensorCell(held, self._contents.of(_readable(where), held)))
        return [(where, held.grad)] if held.is_leaf else []

    def _take_object(self, where: str, held: Any) -> Iterable[tuple[str, object]]:
        kind = type(held)
        if kind.__module__.partition(".")[0] in _FOREIGN or isinstance(held, _OUTSIDE):
            return []
        if isinstance(getattr(held, "__dict__", None), dict):
            self._cells.append(_Mapped(vars(held)))
            return [(f"{where}.{name}", value) for name, value in vars(held).items()]
        slots = [name for of in kind.__mro__ for name in _slots(of)]
        if slots:
            self._cells.append(_Slots(held, slots))
            return [(f"{where}.{name}", getattr(held, name, None)) for name in slots]
        if (mark := _mark(held)) is not None:
            self._opaque[_readable(where)] = (held, mark)
        return []


class _Writes(TorchDispatchMode):
    """Sees what is written to before it is."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it away from this mode

    def __init__(self, contents: Contents) -> None:
        super().__init__()
        self._contents = contents

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for i, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    given = args[i] if i < len(args) else kwargs.get(argument.name)
                    for tensor in given if isinstance(given, list | tuple) else [given]:
                        if isinstance(tensor, Tensor):
                            self._contents.before_write(tensor)
        return func(*args, **kwargs)


def _cell_of_container(held: object) -> _Cell | None:
    if isinstance(held, dict):
        return _Mapped(held)
    if isinstance(held, list | deque):
        return _Listed(held)
    return _Plain(held) if isinstance(held, set | bytearray) else None


def _items(where: str, held: Any) -> Iterator[tuple[str, object]]:
    """What a container holds, and where that is."""
    if isinstance(held, dict):
        yield from ((f"{where}.{key}", value) for key, value in zip(dict.keys(held), _values(held), strict=True))
    elif not isinstance(held, bytearray):
        yield from ((where, item) for item in held)


def _readable(where: str) -> str:
    """Without the dicts in which a module keeps its tensors and modules."""
    return ".".join(part for part in where.split(".") if part not in ("", "_parameters", "_buffers", "_modules"))


_values = dict.values  # past what a subclass overrides


def _state_of(held: Any) -> _State | None:
    if isinstance(held, torch.Generator):
        return _State(held.get_state, held.set_state)
    if isinstance(held, np.random.RandomState):
        return _State(held.get_state, held.set_state)
    if isinstance(held, np.random.Generator | np.random.BitGenerator):
        bits: Any = held.bit_generator if isinstance(held, np.random.Generator) else held
        return _State(lambda: bits.state, lambda state: setattr(bits, "state", state))
    return _State(held.getstate, held.setstate) if isinstance(held, random.Random) else None


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ()) if kind.__module__ != "builtins" else ()
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__weakref__", "__dict__")]


def _mark(held: object) -> object | None:
    """What is another thing once an object of unknown kind has changed; None where that cannot be told."""
    if isinstance(held, types.GeneratorType):
        return held.gi_frame.f_lasti if held.gi_frame is not None else "ended"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterators that are not to be pickled for much longer
            return pickle.dumps(held)
    except Exception:  # it has none
        return None if " at 0x" in (text := repr(held)) else text


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether it stands for another inside a transform such as `torch.func.vmap`."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)
