"""How a network's tensors lie in the weights store: three flat vectors, one a kind, in the order of `state_dict`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

KINDS: dict[str, tuple[np.dtype, torch.dtype]] = {
    "parameters": (np.dtype(np.float32), torch.float32),
    "buffers": (np.dtype(np.float32), torch.float32),
    "integer_buffers": (np.dtype(np.int64), torch.int64),
}
"""Arrays of the store: trained parameters, running statistics, and batch counters."""


@dataclass(frozen=True)
class Entry:
    """One tensor's place in its flat vector: elements `offset` to `offset` + the product of `shape`, in C order."""

    name: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of all tensors, by kind."""

    entries: Mapping[str, tuple[Entry, ...]]

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Layout of a network.

        Raises:
            ValueError: a parameter is not float32, or a buffer is neither float32 nor int64.
        """
        entries: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
        offsets = dict.fromkeys(KINDS, 0)
        for kind, name, tensor in _tensors(network):
            entries[kind].append(Entry(name, tuple(tensor.shape), offsets[kind]))
            offsets[kind] += tensor.numel()
        return cls({kind: tuple(rows) for kind, rows in entries.items()})

    def size(self, kind: str) -> int:
        """Elements of one flat vector."""
        last = self.entries[kind][-1:]
        return sum(e.offset + int(np.prod(e.shape)) for e in last)

    def to_attributes(self, kind: str) -> list[dict[str, Any]]:
        """Rows of {name, shape, offset}; JSON-able."""
        return [{**asdict(e), "shape": list(e.shape)} for e in self.entries[kind]]

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, list[dict[str, Any]]]) -> Self:
        """The inverse of `to_attributes`, of all kinds."""
        rows = {k: tuple(Entry(r["name"], tuple(r["shape"]), r["offset"]) for r in v) for k, v in attributes.items()}
        return cls(rows)

    def difference(self, other: Layout) -> str | None:
        """What `other` lacks, has beyond this one, or shapes differently, in one line; None where they agree."""
        mine = {e.name: e.shape for rows in self.entries.values() for e in rows}
        theirs = {e.name: e.shape for rows in other.entries.values() for e in rows}
        parts = [f"missing {n} {list(s)}" for n, s in mine.items() if n not in theirs]
        parts += [f"unexpected {n} {list(s)}" for n, s in theirs.items() if n not in mine]
        parts += [
            f"{n} {list(theirs[n])} instead of {list(s)}" for n, s in mine.items() if n in theirs and theirs[n] != s
        ]
        return "; ".join(parts[:6] + ([f"and {len(parts) - 6} more"] if len(parts) > 6 else [])) or None

    def copy_into(self, network: nn.Module, vectors: Mapping[str, NDArray[Any]]) -> None:
        """Copy flat vectors into the network's tensors, bit for bit."""
        rows = {kind: iter(entries) for kind, entries in self.entries.items()}
        for kind, _, tensor in _tensors(network):
            entry = next(rows[kind])
            source = torch.from_numpy(vectors[kind][entry.offset : entry.offset + tensor.numel()])
            tensor.detach().copy_(source.view(entry.shape))


def tensors_by_kind(network: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The network's tensors in the order of their flat vectors, by kind."""
    found: dict[str, list[torch.Tensor]] = {kind: [] for kind in KINDS}
    for kind, _, tensor in _tensors(network):
        found[kind].append(tensor.detach())
    return found


def flattener(tensors: Sequence[torch.Tensor]) -> Callable[[NDArray[Any]], None]:
    """What copies the tensors, as they are when it is called, into a flat vector: in C order, bit for bit."""

    def from_device(vector: NDArray[Any]) -> None:  # put together there, one transfer
        torch.from_numpy(vector).copy_(torch.cat([tensor.reshape(-1) for tensor in tensors]))

    def from_memory(vector: NDArray[Any]) -> None:
        for place, values in views:
            vector[place].reshape(values.shape)[...] = values

    if any(tensor.device.type != "cpu" for tensor in tensors):
        return from_device
    stops = np.cumsum([tensor.numel() for tensor in tensors]).tolist()
    # by NumPy: torch's threads would wait for those that compress, at each of many small copies
    views = [(slice(stop - t.numel(), stop), t.numpy()) for stop, t in zip(stops, tensors, strict=True)]
    return from_memory


def _tensors(network: nn.Module) -> list[tuple[str, str, torch.Tensor]]:
    """Every tensor of the state dict, with its kind and name, in a fixed order."""
    found: list[tuple[str, str, torch.Tensor]] = [("parameters", name, p) for name, p in network.named_parameters()]
    persistent = network.state_dict(keep_vars=True)
    for name, b in network.named_buffers():
        if name in persistent:
            found.append(("integer_buffers" if b.dtype == torch.int64 else "buffers", name, b))
    for kind, name, tensor in found:
        if tensor.dtype != KINDS[kind][1]:
            raise ValueError(f"{name}: expected {KINDS[kind][1]} in the weights store, got {tensor.dtype}")
    return found
