"""How tensors by name come into a network: through its `load_state_dict`, whole or not at all."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reluscope.checkpoint_files.finding import listed
from reluscope.checkpoint_files.naming import PREFIXES, Expected, Naming, naming

_LISTED = 8  # names that a message lists


@dataclass(frozen=True)
class _Outcome:
    """What became of loading by one naming.

    Attributes:
        missing: what the network needs and the file lacks, by the network's names.
        unexpected: what the file has and the network does not take, by the file's names.
        error: what the network's modules said against it.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    error: str = ""


def load_tensors(found: Mapping[str, Any], file: str, network: nn.Module) -> list[str]:
    """Load tensors by name into a network; the lines that a person should know.

    Raises:
        ValueError: one line: they do not fit, or one of them or of the network has no plain values.
    """
    expected = Expected.of(network)
    for name, tensor in expected.tensors.items():
        if tensor.is_meta:
            raise ValueError(f"the network's {name} has no values (it is on the device meta); build it on the CPU")
    try:
        whole, possible = naming(found, expected)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    in_doubt = whole is None or bool(_of_other_kinds(whole, found, expected) + _of_other_shapes(whole, found, expected))
    with _as_it_was_on_failure(network if in_doubt else None):
        # its modules may take other names than they give
        whole = whole or _best(possible, found, file, network, expected)
        _require_alike(whole, found, file, expected)
        outcome = _load(whole, found, file, network, expected)
        if parts := _differences(whole, outcome, found, expected):
            more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
            raise ValueError(f"{file} does not fit the network: {'; '.join(parts[:_LISTED] + more)}")
    return list(_notes(whole, outcome, found, expected))


def _best(
    possible: Sequence[Naming], found: Mapping[str, Any], file: str, network: nn.Module, expected: Expected
) -> Naming:
    """The naming by which the network misses least; the first of equals."""
    if len(possible) == 1:
        return possible[0]
    outcomes = [_load(one, found, file, network, expected) for one in possible]
    missed = [(len(one.missing), len(one.unexpected)) for one in outcomes]
    return possible[missed.index(min(missed))]


def _load(named: Naming, found: Mapping[str, Any], file: str, network: nn.Module, expected: Expected) -> _Outcome:
    """Let the network load what is named so."""
    state = OrderedDict(
        (name, _plain(given, found[given], file, expected.tensors.get(name))) for name, given in named.names.items()
    )
    if metadata := getattr(found, "_metadata", None):
        state._metadata = OrderedDict(  # type: ignore[attr-defined]
            (named.renamed(f"{path}.").removesuffix("."), value)
            for path, value in metadata.items()
            if f"{path}.".startswith(named.prefix)
        )
    error, foreign = "", set(found) - set(named.names.values())
    try:
        result = network.load_state_dict(state, strict=False)
        absent = list(result.missing_keys)
        unexpected = {named.names.get(name, name) for name in result.unexpected_keys}
    except Exception as raised:  # its modules' hooks may raise anything
        error = " ".join(str(raised).split()) or type(raised).__name__
        absent = [name for name in expected.tensors if name not in state]
        unexpected = {given for name, given in named.names.items() if name not in expected.tensors}
    needed = expected.missing(set(expected.tensors) - set(absent))
    missing = [name for name in absent if name in needed or name not in expected.tensors]
    return _Outcome(missing, [name for name in found if name in unexpected | foreign], error)


def _plain(name: str, value: Any, file: str, target: Tensor | None) -> Any:
    """A tensor as the network's are: with a value at every place."""
    if not isinstance(value, Tensor):
        return value
    if value.is_meta:
        raise ValueError(f"{file}: {name} has no values (saved from the device meta); save a network that has some")
    if value.is_quantized or value.is_nested:
        kind = "quantized" if value.is_quantized else "nested"
        raise ValueError(f"{file}: {name} is a {kind} tensor; save it as a plain one")
    if value.layout is not torch.strided and (target is None or target.layout is torch.strided):
        return value.to_dense()
    return value


def _require_alike(named: Naming, found: Mapping[str, Any], file: str, expected: Expected) -> None:
    """Whether the file has one value for what is one tensor in the network."""
    for group in {id(group): group for group in expected.same.values()}.values():
        given = [named.names[name] for name in group if name in named.names]
        for one, two in itertools.pairwise(given):
            if not _are_equal(found[one], found[two]):
                raise ValueError(
                    f"{file}: {one} and {two} differ, but they are one tensor in the network ({', '.join(group)})"
                )


def _are_equal(one: Tensor, two: Tensor) -> bool:
    if one.shape != two.shape or one.is_meta or two.is_meta:
        return one.shape == two.shape
    same = (one == two) | ((one != one) & (two != two))  # NaN, too
    return bool(same.all())


def _differences(named: Naming, outcome: _Outcome, found: Mapping[str, Any], expected: Expected) -> list[str]:
    """Why the file cannot be loaded, by name; nothing where it was."""
    parts = _of_other_kinds(named, found, expected)
    if not parts and not outcome.missing and not outcome.error:
        return []
    for name in outcome.missing:
        tensor = expected.tensors.get(name)
        parts.append(f"missing {name}" + (f" {_shape(tensor)}" if tensor is not None else ""))
    own = {given: name for name, given in named.names.items()}
    for given in outcome.unexpected:
        if outcome.missing and isinstance(found[given], Tensor):
            parts.append(f"unexpected {own.get(given, given)} {_shape(found[given])}")
    parts += _of_other_shapes(named, found, expected)
    return parts or [outcome.error[:300]]


def _of_other_shapes(named: Naming, found: Mapping[str, Any], expected: Expected) -> list[str]:
    return [
        f"{name} {_shape(found[given])} instead of {_shape(tensor)}"
        for name, tensor in expected.tensors.items()
        if (given := named.names.get(name)) and not is_lazy(tensor) and found[given].shape != tensor.shape
    ]


def _of_other_kinds(named: Naming, found: Mapping[str, Any], expected: Expected) -> list[str]:
    return [
        f"{name} {_dtype(found[given])} instead of {_dtype(tensor)}"
        for name, tensor in expected.tensors.items()
        if (given := named.names.get(name)) and name not in expected.unused and _kind(found[given]) != _kind(tensor)
    ]


def _kind(tensor: Tensor) -> str:
    """Numbers of one kind stand for the same values in another precision; bytes are only scaled ones."""
    if tensor.is_complex():
        return "complex"
    if not tensor.is_floating_point():
        return "whole"
    return "real" if tensor.element_size() > 1 else _dtype(tensor)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> list[int] | str:
    return "of no shape yet" if is_lazy(tensor) else list(tensor.shape)


def _notes(named: Naming, outcome: _Outcome, found: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    """What a person should know of a file that was loaded."""
    if any(part not in PREFIXES for part in named.prefix.split(".")[:-1]):
        yield f"the network is what the file has under {named.prefix!r}"
    if outcome.unexpected:
        number = len(outcome.unexpected)
        tensors = "1 tensor" if number == 1 else f"{number} tensors"
        yield f"the network does not take {tensors} of the file: {listed(outcome.unexpected)}"
    given = {given for name in expected.unused if (given := named.names.get(name))}
    if absent := len(expected.unused) - len(given):
        yield f"without {absent} running statistics of batch-norm, which counting does not use"
    pairs = [(found[given], expected.tensors.get(name)) for name, given in named.names.items()]
    rounded = {
        f"{_dtype(tensor)} is rounded to the network's {_dtype(target)}"
        for tensor, target in pairs
        if isinstance(tensor, Tensor)
        and target is not None
        and _kind(tensor) == _kind(target) == "real"
        and torch.promote_types(tensor.dtype, target.dtype) != target.dtype
    }
    yield from sorted(rounded)


@contextmanager
def _as_it_was_on_failure(network: nn.Module | None) -> Iterator[None]:
    """Put a network's tensors back where loading fails; None where it cannot but succeed, which saves the copy."""
    tensors = [] if network is None else [*network.parameters(), *network.buffers()]
    before = [(tensor, tensor.detach().clone()) for tensor in tensors if not is_lazy(tensor)]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        raise
