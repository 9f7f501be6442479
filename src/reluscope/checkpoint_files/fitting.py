"""How tensors by name come into a network: through its `load_state_dict`, whole or not at all."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reluscope.checkpoint_files.finding import listed
from reluscope.checkpoint_files.naming import PREFIXES, Expected, Naming, naming

_LISTED = 8  # names that a message lists

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


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
    found = _dense(found, {tensor.shape for tensor in expected.tensors.values() if not is_lazy(tensor)})
    try:
        whole, possible = naming(found, expected)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    # its modules may take other names and shapes than they give
    in_doubt = whole is None or bool(_of_other_shapes(whole, found, expected))
    with _as_it_was_on_failure(network if in_doubt else None):
        whole = whole or _best(possible, found, network, expected)
        _refuse(_of_other_kinds(whole, found, expected), file)
        _require_alike(whole, found, file, expected)
        outcome = _load(whole, found, network, expected)
        _refuse(_differences(whole, outcome, found, expected), file)
    return list(_notes(whole, outcome, found, expected))


def _refuse(parts: Sequence[str], file: str) -> None:
    if parts:
        more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
        raise ValueError(f"{file} does not fit the network: {'; '.join([*parts[:_LISTED], *more])}")


def _best(possible: Sequence[Naming], found: Mapping[str, Any], network: nn.Module, expected: Expected) -> Naming:
    """The naming by which the network misses least; the first of equals."""
    if len(possible) == 1:
        return possible[0]
    outcomes = [_load(one, found, network, expected) for one in possible]
    missed = [(len(one.missing), len(one.unexpected)) for one in outcomes]
    return possible[missed.index(min(missed))]


def _load(named: Naming, found: Mapping[str, Any], network: nn.Module, expected: Expected) -> _Outcome:
    """Let the network load what is named so."""
    state = OrderedDict((name, found[given]) for name, given in named.names.items())
    if metadata := getattr(found, "_metadata", None):
        state._metadata = named.of_modules(metadata)  # type: ignore[attr-defined]
    absent = [name for name in expected.tensors if name not in state]
    unexpected = {given for name, given in named.names.items() if name not in expected.tensors}
    error, foreign = "", set(found) - set(named.names.values())
    try:
        result = network.load_state_dict(state, strict=False)
        if hasattr(result, "missing_keys"):  # a network's own may return nothing
            absent = list(result.missing_keys)
            unexpected = {named.names.get(name, name) for name in result.unexpected_keys}
    except Exception as raised:  # its modules' hooks may raise anything
        error = " ".join(str(raised).split()) or type(raised).__name__
    needed = expected.missing(set(expected.tensors) - set(absent))
    missing = [name for name in absent if name in needed or name not in expected.tensors]
    return _Outcome(missing, [name for name in found if name in unexpected | foreign], error)


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
    if one.shape != two.shape:
        return False
    same = (one == two) | ((one != one) & (two != two))  # NaN, too
    return bool(same.all())


def _differences(named: Naming, outcome: _Outcome, found: Mapping[str, Any], expected: Expected) -> list[str]:
    """Why the file cannot be loaded, by name; nothing where it was."""
    if not outcome.missing and not outcome.error:
        return []
    parts = []
    for name in outcome.missing:
        tensor = expected.tensors.get(name)
        parts.append(f"missing {name}" + (f" {_shape(tensor)}" if tensor is not None else ""))
    own = {given: name for name, given in named.names.items()}
    for given in outcome.unexpected if outcome.missing else ():
        if isinstance(found[given], Tensor):
            parts.append(f"unexpected {own.get(given, given)} {_shape(found[given])}")
    parts += _of_other_shapes(named, found, expected)
    return parts or [outcome.error[:300]]


def _of_other_shapes(named: Naming, found: Mapping[str, Any], expected: Expected) -> list[str]:
    return [
        f"{name} {_shape(found[given])} instead of {_shape(tensor)}"
        for name, tensor in expected.tensors.items()
        if (given := named.names.get(name)) and not is_lazy(tensor) and _shape(found[given]) != _shape(tensor)
    ]


def _of_other_kinds(named: Naming, found: Mapping[str, Any], expected: Expected) -> list[str]:
    return [
        f"{name} {_described(found[given])} instead of {_described(tensor)}"
        for name, tensor in expected.tensors.items()
        if (given := named.names.get(name)) and name not in expected.unused and _kind(found[given]) != _kind(tensor)
    ]


def _kind(tensor: Tensor) -> str:
    """Numbers of one kind stand for the same values in another precision; bytes are only scaled ones."""
    if tensor.is_meta or tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        return _described(tensor)
    if tensor.dtype.is_complex:
        return "complex"
    if not tensor.dtype.is_floating_point:
        return "whole"
    return "real" if tensor.dtype.itemsize > 1 else _described(tensor)


def _described(tensor: Tensor) -> str:
    """The kind of a tensor's values."""
    if tensor.is_meta:
        return "without values (of the device meta)"
    if tensor.is_nested:
        return "nested"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return dtype if tensor.layout is torch.strided else f"{str(tensor.layout).removeprefix('torch.')} {dtype}"


def _dense(found: Mapping[str, Any], shapes: Collection[torch.Size]) -> Mapping[str, Any]:
    """With a value at every place of sparse tensors that have one of these shapes."""
    sparse = [
        name
        for name, value in found.items()
        if isinstance(value, Tensor) and not value.is_nested and value.layout in _SPARSE and value.shape in shapes
    ]
    return {**found, **{name: found[name].to_dense() for name in sparse}} if sparse else found


def _shape(tensor: Tensor) -> list[int] | str:
    return "of no shape" if is_lazy(tensor) or tensor.is_nested else list(tensor.shape)


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
        f"{_described(tensor)} is rounded to the network's {_described(target)}"
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
