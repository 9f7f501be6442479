"""Dumped steps of a training on an NVIDIA GPU: gathered there, many at a time, and copied beside the training.

A training that asks for each step's values waits at each step until the GPU has done all that it was given. Here each
step adds launches to that and nothing more; only the thread that writes blocks waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.checkpoints.layout import KINDS


class SideStream:
    """Copies from an NVIDIA GPU to pinned memory, beside what is launched on its current stream.

    Args:
        device: where the tensors are that are copied.
    """

    is_pinned = True
    """Whether the memory that is copied to must be pinned."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def copy(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Begin to copy each pair's second tensor, as launched so far, into its first; returns what waits for that.

        The tensors must be kept until it was waited for, and those on the GPU not be written to before `join`.
        """
        arrived = torch.cuda.Event(blocking=True)  # without taking a core meanwhile
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
            arrived.record()
        return arrived.synchronize

    def join(self) -> None:
        """Let what is launched from here on wait for the copies; returns at once."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


class Ring:
    """Rows of steps on the network's device: one block that fills, and one that is copied to the host.

    Args:
        tensors: the network's, by kind of the weights store, in the order of their flat vectors; on one device.
        block_steps: rows.
        scalars: names of the numbers that each step may have.
        side: makes the copies.
    """

    def __init__(
        self, tensors: Mapping[str, Sequence[Tensor]], block_steps: int, scalars: Sequence[str], side: SideStream
    ) -> None:
        self._side = side
        self.num_sent = 0  # rows of the block that the host has, or will have
        self._flat = {kind: [_as_it_lies(tensor) for tensor in tensors[kind]] for kind in KINDS if tensors[kind]}
        self._order = {kind: order for kind in self._flat if (order := _c_order(tensors[kind])) is not None}
        device = next(tensor.device for kind in self._flat for tensor in tensors[kind])
        sizes = {kind: sum(tensor.numel() for tensor in tensors[kind]) for kind in self._flat}
        self._filling = {
            kind: torch.zeros(block_steps, size, dtype=KINDS[kind][1], device=device) for kind, size in sizes.items()
        }
        for name in scalars:
            self._filling[name] = torch.full((block_steps,), torch.nan, dtype=torch.float64, device=device)
        self._scalars = [self._filling[name] for name in scalars]
        self._leaving = {name: torch.zeros_like(block) for name, block in self._filling.items()}

    def new_block(self, sizes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype]) -> dict[str, NDArray]:
        """A block on the host that `send` may fill: zeros of these shapes."""
        pin = self._side.is_pinned
        return {name: torch.zeros(size, dtype=dtypes[name], pin_memory=pin).numpy() for name, size in sizes.items()}

    def start_block(self, num_rows: int) -> None:
        """Begin a block of which the host has so many rows."""
        self.num_sent = num_rows

    def put(self, row: int, scalars: Mapping[str, float | Tensor]) -> None:
        """Gather the network, as it is now, into a row; scalars that are not given stay NaN."""
        for kind, flat in self._flat.items():
            parts = [tensor if tensor.ndim == 1 else tensor.reshape(-1) for tensor in flat]
            torch.cat(parts, out=self._filling[kind][row])
        for name, value in scalars.items():
            place = self._filling[name][row]
            if isinstance(value, Tensor):
                place.copy_(value)
            else:
                place.fill_(value)

    def send(
        self, num_rows: int, block: Mapping[str, NDArray[Any]], optimizer: Mapping[str, Tensor]
    ) -> Callable[[], dict[str, Tensor]]:
        """Begin to copy the rows up to `num_rows` that were not sent yet, and the optimizer's tensors.

        Args:
            num_rows: rows of the block so far.
            block: gets them; made by `new_block`.
            optimizer: tensors on the device.

        Returns:
            What waits until all has arrived, and returns the optimizer's tensors on the host.
        """
        rows = slice(self.num_sent, num_rows)
        self.num_sent = num_rows
        self._side.join()  # the block that leaves is free again when the copies before have ended
        for name, filling in self._filling.items():
            if name in self._order:
                torch.index_select(filling[rows], 1, self._order[name], out=self._leaving[name][rows])
            else:
                self._leaving[name][rows].copy_(filling[rows])
        for scalar in self._scalars:
            scalar.fill_(torch.nan)
        # clones, because the next update changes them; they keep their strides
        clones = {name: tensor.detach().clone() for name, tensor in optimizer.items()}
        momenta = {
            name: torch.empty_like(clone, device="cpu", pin_memory=self._side.is_pinned)
            for name, clone in clones.items()
        }
        pairs = [(torch.from_numpy(block[name][rows]), leaving[rows]) for name, leaving in self._leaving.items()]
        wait = self._side.copy(pairs + [(momenta[name], clone) for name, clone in clones.items()])

        def arrive() -> dict[str, Tensor]:
            wait()
            clones.clear()  # kept until here
            return momenta

        return arrive


def _as_it_lies(tensor: Tensor) -> Tensor:
    """A flat view of the tensor in the order of its memory; the tensor itself, permuted, where there is none."""
    permuted = tensor.permute(_by_stride(tensor))
    return permuted.view(-1) if permuted.is_contiguous() else permuted


def _c_order(tensors: Sequence[Tensor]) -> Tensor | None:
    """Where each element of a flat vector in C order is in that of `_as_it_lies`, int32; None where they are one."""
    places, offset, is_same = [], 0, True
    for tensor in tensors:
        order = _by_stride(tensor)
        place = torch.arange(offset, offset + tensor.numel(), dtype=torch.int32)
        permuted = place.view([tensor.shape[axis] for axis in order])
        places.append(permuted.permute(sorted(range(tensor.ndim), key=order.__getitem__)).reshape(-1))
        is_same = is_same and torch.equal(places[-1], place)
        offset += tensor.numel()
    return None if is_same else torch.cat(places).to(tensors[0].device)


def _by_stride(tensor: Tensor) -> list[int]:
    """The tensor's axes, the slowest first; those of one element, whose stride tells nothing, where they are."""
    strides, axes = tensor.stride(), range(tensor.ndim)
    moving = iter(sorted((axis for axis in axes if tensor.shape[axis] > 1), key=lambda axis: -strides[axis]))
    return [next(moving) if tensor.shape[axis] > 1 else axis for axis in axes]
