"""By which names a file's tensors are those of a network: what wrappers put before and between them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

PREFIXES = ("module", "_orig_mod", "_forward_module", "model", "network", "net")
"""What DataParallel, torch.compile, Lightning and common wrappers put before the names of parameters, in any order."""

_BETWEEN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and activation checkpointing put between them."""

_DROPPED = ((), _BETWEEN, (*_BETWEEN, "module"))
"""The parts that are left out of names, one try after the other; DataParallel may wrap a part of a network."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What a network takes.

    Attributes:
        tensors: by name, as they are in the network.
        unused: running statistics of batch-norm, which may be missing, because counting takes each batch's own.
        same: for each name, all names of that tensor (tied weights).
        modules: the paths of all modules.
    """

    tensors: Mapping[str, Tensor]
    unused: Collection[str]
    same: Mapping[str, Sequence[str]]
    modules: Sequence[str]

    @classmethod
    def of(cls, network: nn.Module) -> Expected:
        state = network.state_dict(keep_vars=True)
        tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
        modules = dict(network.named_modules(remove_duplicate=False))
        unused = {
            f"{path}.{buffer}" if path else buffer
            for path, module in modules.items()
            if isinstance(module, _BatchNorm)
            for buffer, _ in module.named_buffers(recurse=False)
        }
        groups: dict[object, list[str]] = {}
        for name, tensor in tensors.items():
            groups.setdefault(_place(tensor), []).append(name)
        same = {name: group for group in groups.values() for name in group}
        return cls(tensors, unused, same, list(modules))

    def missing(self, names: Collection[str]) -> list[str]:
        """What the network needs beside these names."""
        return [
            name
            for name, group in self.same.items()
            if name not in self.unused and not any(one in names for one in group)
        ]


def _place(tensor: Tensor) -> object:
    """What two names of one tensor share."""
    if is_lazy(tensor) or tensor.is_meta or not tensor.numel() or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


@dataclass(frozen=True)
class Naming:
    """One way in which a file's names may be a network's.

    Attributes:
        prefix: what is taken off.
        names: the file's name by the network's, of those that begin with the prefix.
        dropped: parts that are left out.
        paths: the network's modules, by their path without these parts.
    """

    prefix: str
    names: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, name: str) -> str:
        """The network's name for a file's name that begins with the prefix."""
        return _renamed(_without(name, self.dropped).removeprefix(self.prefix), self.paths)

    def of_modules(self, versions: Mapping[str, Any]) -> OrderedDict[str, Any]:
        """What a file says of its modules by their paths, by the network's paths; of those below the prefix."""
        return OrderedDict(
            (self.renamed(f"{path}.").removesuffix("."), value)
            for path, value in versions.items()
            if _without(f"{path}.", self.dropped).startswith(self.prefix)
        )


def naming(found: Collection[str], expected: Expected) -> tuple[Naming | None, list[Naming]]:
    """The way in which the names in a file hold all that a network needs; and, without it, those that may still do.

    Names as they are go before known prefixes, and these before others.

    Raises:
        ValueError: there are several such ways, and nothing says which is meant.
    """
    possible: list[Naming] = []
    for dropped in _DROPPED:
        named = list(_namings(found, expected, dropped))
        possible += [one for one in named if one.names not in [other.names for other in possible]]
        if whole := [one for one in named if not expected.missing(one.names)]:
            return _the_one(whole), []
    for dropped in _DROPPED:
        others = list(_with_other_prefixes(found, expected, dropped))
        if whole := [one for one in others if not expected.missing(one.names)]:
            return _the_one(whole), []
    return None, possible


def _the_one(whole: Sequence[Naming]) -> Naming:
    if len(whole) > 1 and whole[0].prefix:
        held = " and ".join(repr(one.prefix) for one in whole)
        raise ValueError(f"holds all that the network needs under {held} alike; save the one that is meant alone")
    return whole[0]


def _namings(found: Collection[str], expected: Expected, dropped: tuple[str, ...]) -> Iterator[Naming]:
    """The names as they are, and without each nesting of known prefixes that some have."""
    bare = _bare(found, dropped)
    if len(bare) < len(found):
        return  # two would become one
    prefixes = {"": 0}
    for name in bare:
        prefix = ""
        for part in name.split(".")[:-1]:
            if part not in PREFIXES:
                break
            prefix += f"{part}."
            prefixes.setdefault(prefix, len(prefixes))
    paths = {_without(path, dropped): path for path in expected.modules} if dropped else {}
    for prefix in prefixes:
        yield _under(prefix, bare, dropped, paths)


def _with_other_prefixes(found: Collection[str], expected: Expected, dropped: tuple[str, ...]) -> Iterator[Naming]:
    """The names without what stands before the longest one that the network needs."""
    bare = _bare(found, dropped)
    needed = [_without(name, dropped) for name in expected.tensors if name not in expected.unused]
    if len(bare) < len(found) or not needed:
        return
    longest = max(needed, key=len)
    paths = {_without(path, dropped): path for path in expected.modules} if dropped else {}
    for prefix in [name.removesuffix(longest) for name in bare if name.endswith(f".{longest}")]:
        yield _under(prefix, bare, dropped, paths)


def _under(prefix: str, bare: Mapping[str, str], dropped: tuple[str, ...], paths: Mapping[str, str]) -> Naming:
    names = {_renamed(b.removeprefix(prefix), paths): name for b, name in bare.items() if b.startswith(prefix)}
    return Naming(prefix, names, dropped, paths)


def _bare(found: Collection[str], dropped: tuple[str, ...]) -> dict[str, str]:
    """The file's names by what is left of them."""
    return {_without(name, dropped): name for name in found}


def _without(name: str, dropped: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in dropped) if dropped else name


def _renamed(bare: str, paths: Mapping[str, str]) -> str:
    """A name within the module of the longest path that it begins with."""
    parts = bare.split(".")
    for end in range(len(parts) - 1, -1, -1):
        if (path := paths.get(".".join(parts[:end]))) is not None:
            return ".".join(filter(None, [path, *parts[end:]]))
    return bare
