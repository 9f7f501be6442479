"""Writing the weights store: every dumped step, a block of steps at a time, so that a killed training can go on.

Blocks are compressed and written beside the training, in order; where that falls behind, the training waits. A training
that has all cores waits for each block instead, while they compress it: threads that must meet at every operation lose
more to a neighbour that takes one of their cores (README, "What dumping costs"). On an NVIDIA GPU the steps of a block
are gathered there, and copied when it is handed on (`ring`).
"""

from __future__ import annotations

import io
import pickle
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import nn

from reluscope import stores
from reluscope.checkpoints.cores import compressing_threads, has_spare_core
from reluscope.checkpoints.layout import KINDS, Layout, flattener, tensors_by_kind
from reluscope.checkpoints.ring import Ring, SideStream
from reluscope.data.digest import without_new_digest
from reluscope.files import WriteError, remove
from reluscope.resuming import machines

BLOCK_STEPS = 128
"""Dumped steps a chunk, at most: time is the fast axis, because neighbours in time resemble each other most. Half as
many take 1.3% more room at learning rate 0.1 and 3.5% at 0.001."""

BLOCK_BYTES = 1 << 29
"""Memory of a block, at most: a larger network, as ResNet-18 with 45 MB a step, has fewer steps a block."""

CHUNK_VALUES = 1 << 22
"""Values a chunk, at most: 16 MB raw, 32,768 parameters at 128 steps. Several threads encode and decode a block."""

SAVE_SECONDS = 60.0
"""A block that takes longer to fill is saved as far as it is, so that a kill costs a minute at most."""

BLOCKS_WAITING = 2
"""Blocks that may wait to be written, the one being written included, beside the one that fills."""

MACHINE = ("device", "threads", "versions")
"""Attributes on which a training's bits depend, although they are no settings of it."""

_STEPS = ("step", "evaluated_step")

SCALARS = ("learning_rate", "train_loss", "train_accuracy")
"""Kept for each dumped step."""


class WeightsWriter:
    """Appends steps to an unfinished store in `folder`, and renames it to `final` at the end.

    Opened on a folder that a killed training left, it continues there: `resume_step` is the last step saved, or None.

    Args:
        folder: where the unfinished store is kept.
        final: the finished store's name.
        network: what is dumped; its tensors may change, but not be replaced by others.
        steps: the steps to dump, ascending, int64.
        epochs: the same in epochs.
        evaluated: the steps whose test accuracy is taken, ascending, int64.
        attributes: what describes the run; a folder left by a run with other attributes is refused.
        check: gets each step and its training loss (NaN where none is given), in order, before the step is saved: at
            once on the CPU, when its block arrives from a GPU. What it raises ends the training.
        resume_elsewhere: go on also where `MACHINE` is another, though a training's bits depend on it; the store's
            attribute ``resumed`` then lists each later machine, with the step that it went on after.

    Raises:
        StoreError: another process writes here, or the folder belongs to other settings.
    """

    def __init__(
        self,
        folder: Path,
        final: Path,
        network: nn.Module,
        steps: NDArray[np.int64],
        epochs: NDArray[np.float64],
        evaluated: NDArray[np.int64],
        attributes: Mapping[str, Any],
        check: Callable[[int, float], object] = lambda step, loss: None,
        *,
        resume_elsewhere: bool = False,
    ) -> None:
        self._check = check
        self._folder, self._final, self._steps, self._evaluated = folder, final, steps, evaluated
        self._layout = Layout.of(network)
        self._block_steps = _block_steps(self._layout)
        tensors = tensors_by_kind(network)
        self._copies = {kind: flattener(of_kind) for kind, of_kind in tensors.items()}
        side = _side_stream(network)
        self._ring = Ring(tensors, self._block_steps, SCALARS, side) if side else None
        self._lock = stores.lock(folder, "training this run")
        self._store, self._state = folder / "weights.zarr", folder / "state.pt"
        self._state_of_optimizer: dict[str, torch.Tensor] = {}
        self._num_dumped = 0
        self._accuracies: list[float] = []
        self._thread = ThreadPoolExecutor(1, "weights")  # takes the blocks in order
        self._compressing = ThreadPoolExecutor(compressing_threads(network), "chunks")
        self._most_waiting = BLOCKS_WAITING if has_spare_core(network) else 0
        self._waiting: deque[Future[None]] = deque()
        self._spare: list[dict[str, NDArray[Any]]] = []  # blocks to fill again: fresh memory costs time at each touch
        self._has_failed = False
        try:
            if self._state.is_file() and self._store.exists():
                self._resume(attributes, resume_elsewhere)
            else:
                self._create(epochs, attributes)
        except BaseException:
            self._lock.release()
            raise
        self._saved_at = time.monotonic()

    def _create(self, epochs: NDArray[np.float64], attributes: Mapping[str, Any]) -> None:
        remove(self._state)  # first: it must never speak of another store than its own
        coordinates = {"coordinates": "step epoch evaluated_step"}
        self._group = stores.create_group(self._store, {"kind": "weights", **coordinates, **attributes})
        num_steps = len(self._steps)
        length = min(num_steps, self._block_steps)
        for kind, (dtype, _) in KINDS.items():
            stores.create_array(
                self._group,
                kind,
                shape=(self._layout.size(kind), num_steps),
                dimensions=(kind.removesuffix("s"), "step"),
                dtype=dtype,
                chunks=(_chunk_length(self._layout.size(kind), length), length),
                # "classic" is what PCodec would choose for weights, without the search
                pcodec={"level": 7, "mode_spec": "classic", **_delta(length)},
                attributes={"entries": self._layout.to_attributes(kind)},
            )
        stores.write_array(self._group, "step", self._steps, ("step",))
        stores.write_array(self._group, "epoch", epochs, ("step",))
        for name in SCALARS:
            stores.write_array(self._group, name, np.full(num_steps, np.nan), ("step",))
        stores.write_array(self._group, "evaluated_step", self._evaluated, ("evaluated_step",))
        stores.write_array(self._group, "test_accuracy", np.full(len(self._evaluated), np.nan), ("evaluated_step",))
        self._start_block()

    def _resume(self, attributes: Mapping[str, Any], resume_elsewhere: bool) -> None:
        with self._whole():
            self._group = stores.reopen_group(self._store, self._state)
            steps = {name: stores.read(stores.array_of(self._group, name)).tolist() for name in _STEPS}
        attributes = without_new_digest(attributes, self._group.attrs)
        settings = {name: value for name, value in attributes.items() if name not in MACHINE}
        now = {**settings, "step": self._steps.tolist(), "evaluated_step": self._evaluated.tolist()}
        if different := stores.difference({**self._group.attrs, **steps}, now):
            raise stores.StoreError(
                f"{self._folder} holds an unfinished training with {different}; restore that to continue it, or "
                "delete the folder to train anew"
            )
        with self._whole():
            self._read_state()
        self._go_on_here(attributes, resume_elsewhere)

    def _read_state(self) -> None:
        state = torch.load(self._state, weights_only=True)
        self._num_dumped = state["num_dumped"]
        self._state_of_optimizer = state["optimizer"]
        last = self._steps[self._num_dumped - 1]
        num_accuracies = int(np.searchsorted(self._evaluated, last, side="right"))
        self._accuracies = stores.read(stores.array_of(self._group, "test_accuracy"))[:num_accuracies].tolist()
        self._start_block()
        first, here = self._block_start, self._num_dumped
        for name, block in self._blocks.items():
            array = stores.array_of(self._group, name)
            stores.require_chunks(array, here)
            if here > first:
                block[: here - first] = stores.read(array, (..., slice(first, here)), steps=self._steps[first:here]).T

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Say what to do where what a killed training left is damaged."""
        try:
            yield
        except WriteError:
            raise
        except (ValueError, RuntimeError, LookupError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise stores.StoreError(
                f"{self._folder}: cannot be continued: {' '.join(str(error).split())}; put back what was there, or "
                "delete the folder to train anew"
            ) from error

    def _go_on_here(self, attributes: Mapping[str, Any], resume_elsewhere: bool) -> None:
        """Note in the store on which machine the training goes on, where it is another and there are steps to make."""
        if self._num_dumped == len(self._steps):
            return
        begun = dict(self._group.attrs)
        changes, different = machines(begun, attributes, MACHINE, int(self._steps[self._num_dumped - 1]))
        if different and not resume_elsewhere:
            raise stores.StoreError(
                f"{self._folder} holds an unfinished training with {different}, on which its bits depend; go on here "
                "all the same with resume_elsewhere: true (snakemake --config resume_elsewhere=true), which the store "
                "will say, or start it again where it was"
            )
        if changes != begun.get("resumed", []):
            self._group.attrs["resumed"] = changes

    def _start_block(self) -> None:
        self._block_start = self._num_dumped // self._block_steps * self._block_steps
        self._blocks = self._spare.pop() if self._spare else self._new_block()
        for name in SCALARS:
            self._blocks[name].fill(np.nan)
        if self._ring:
            self._ring.start_block(self._num_dumped - self._block_start)

    def _new_block(self) -> dict[str, NDArray[Any]]:
        sizes = {kind: (self._block_steps, self._layout.size(kind)) for kind in KINDS}
        if self._ring:
            dtypes = {kind: dtype for kind, (_, dtype) in KINDS.items()} | dict.fromkeys(SCALARS, torch.float64)
            return self._ring.new_block(sizes | dict.fromkeys(SCALARS, (self._block_steps,)), dtypes)
        tensors = {kind: np.zeros(sizes[kind], dtype) for kind, (dtype, _) in KINDS.items()}
        return tensors | {name: np.zeros(self._block_steps) for name in SCALARS}

    @property
    def resume_step(self) -> int | None:
        """The last step a killed training saved; None where there is none."""
        return int(self._steps[self._num_dumped - 1]) if self._num_dumped else None

    def restore(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Put the network back to `resume_step`; returns the optimizer's tensors of that moment."""
        column = self._num_dumped - 1
        arrays = {kind: stores.array_of(self._group, kind) for kind in KINDS}
        here = (slice(None), slice(column, column + 1))
        vectors = {
            kind: np.ascontiguousarray(stores.read(array, here, steps=self._steps[here[1]])[:, 0])
            for kind, array in arrays.items()
        }
        self._layout.copy_into(network, vectors)
        return self._state_of_optimizer

    def append(self, scalars: Mapping[str, float | torch.Tensor], optimizer: Mapping[str, torch.Tensor]) -> None:
        """Dump the next step: the network as it is now. Does not wait for an NVIDIA GPU that is still at work on it.

        Args:
            scalars: any of learning_rate, train_loss, train_accuracy at this step: numbers, or tensors of shape [].
            optimizer: tensors that the training needs to go on from here; kept only with the last saved block.

        Raises:
            WriteError: an earlier step could not be written.
        """
        row = self._num_dumped - self._block_start
        if self._ring:
            self._ring.put(row, scalars)
        else:
            self._put(row, scalars)
        self._num_dumped += 1
        if row + 1 == self._block_steps or time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save(optimizer)

    def _put(self, row: int, scalars: Mapping[str, float | torch.Tensor]) -> None:
        values = {name: float(value) for name, value in scalars.items()}
        self._check(int(self._steps[self._num_dumped]), values.get("train_loss", np.nan))
        for kind, copy_to in self._copies.items():
            copy_to(self._blocks[kind][row])
        for name, value in values.items():
            self._blocks[name][row] = value

    def append_accuracy(self, accuracy: float) -> None:
        """Note the test accuracy at the next of the evaluated steps; before that step is dumped, if it is."""
        self._accuracies.append(accuracy)

    def _save(self, optimizer: Mapping[str, torch.Tensor]) -> None:
        """Hand what the block holds to the thread, with everything that a training needs to go on from here."""
        first, here = self._block_start, self._num_dumped
        is_full = here - first == self._block_steps
        # not copied: rows that were dumped stay as they are until the whole block is written
        blocks = {name: block[: here - first] for name, block in self._blocks.items()}
        arrive = self._sent(blocks, optimizer)
        self._waiting.append(self._thread.submit(self._write, blocks, first, here, list(self._accuracies), arrive))
        self._wait(self._most_waiting)
        self._saved_at = time.monotonic()
        if is_full:
            self._start_block()

    def _sent(
        self, blocks: dict[str, NDArray[Any]], optimizer: Mapping[str, torch.Tensor]
    ) -> Callable[[], Mapping[str, torch.Tensor]]:
        """What waits, in the thread, until all of the blocks is on the host, and returns the optimizer's tensors."""
        if self._ring is None:
            momenta = {name: tensor.detach().clone() for name, tensor in optimizer.items()}
            return lambda: momenta
        num_checked, num_rows = self._ring.num_sent, self._num_dumped - self._block_start
        steps = self._steps[self._block_start + num_checked : self._num_dumped].tolist()
        arrive = self._ring.send(num_rows, blocks, optimizer)

        def arrive_and_check() -> Mapping[str, torch.Tensor]:
            arrived = arrive()
            for step, loss in zip(steps, blocks["train_loss"][num_checked:].tolist(), strict=True):
                self._check(step, loss)
            return arrived

        return arrive_and_check

    def _wait(self, most: int) -> None:
        """Until at most so many blocks wait to be written; raises what went wrong with one."""
        while len(self._waiting) > most or (self._waiting and self._waiting[0].done()):
            self._waiting[0].result()
            self._waiting.popleft()

    def _write(
        self,
        blocks: dict[str, NDArray[Any]],
        first: int,
        here: int,
        accuracies: list[float],
        arrive: Callable[[], Mapping[str, torch.Tensor]],
    ) -> None:
        if self._has_failed:
            return  # a later state must not promise what an earlier block failed to keep
        self._has_failed = True
        momenta = arrive()
        chunks = []
        for name, block in blocks.items():
            array = stores.array_of(self._group, name)
            if block.ndim == 1:
                array[first:here] = block
                continue
            for start in range(0, array.shape[0], array.chunks[0]):
                rows = slice(start, start + array.chunks[0])
                chunks.append(self._compressing.submit(_write_chunk, array, rows, slice(first, here), block))
        try:
            for chunk in chunks:
                chunk.result()
        finally:
            for chunk in chunks:  # those that have not begun, where one has failed
                chunk.cancel()
        if accuracies:
            stores.array_of(self._group, "test_accuracy")[: len(accuracies)] = np.array(accuracies)
        state = io.BytesIO()
        torch.save({"num_dumped": here, "optimizer": dict(momenta)}, state)
        stores.write_state(self._group, self._state, state.getbuffer())
        if here - first == self._block_steps:
            self._spare.append(blocks)
        self._has_failed = False

    def finish(self, optimizer: Mapping[str, torch.Tensor]) -> None:
        """Write what is left and give the store its final name.

        Raises:
            WriteError: something could not be written; started again, the training continues after what was.
        """
        if self._num_dumped != len(self._steps):
            raise RuntimeError(f"finish: {len(self._steps)} steps were announced, {self._num_dumped} were written")
        self._save(optimizer)
        self._wait(0)
        stores.finish(self._store, self._final, self._group)
        shutil.rmtree(self._folder, ignore_errors=True)  # what cannot be removed now, as on a networked disk, may stay
        self.close()

    def close(self) -> None:
        """Wait for what was handed to the thread, and let another process continue this run."""
        try:
            self._thread.shutdown()
            self._compressing.shutdown()
        finally:
            self._lock.release()


def _side_stream(network: nn.Module) -> SideStream | None:
    """What copies dumped steps beside a training on an NVIDIA (or AMD) GPU; None on other devices."""
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    return SideStream(device) if device.type == "cuda" else None


def _block_steps(layout: Layout) -> int:
    """Steps a block: a power of two where `BLOCK_BYTES` limits them."""
    bytes_of_step = sum(layout.size(kind) * dtype.itemsize for kind, (dtype, _) in KINDS.items())
    fitting = max(BLOCK_BYTES // max(bytes_of_step, 1), 1)
    return min(BLOCK_STEPS, 1 << fitting.bit_length() - 1)


def _chunk_length(size: int, num_steps: int) -> int:
    """Parameters a chunk of so many steps: even shares of `size`, because the last is compressed in full length."""
    num_chunks = max(-(-size * num_steps // CHUNK_VALUES), 1)
    return max(-(-size // num_chunks), 1)


def _delta(num_steps: int) -> dict[str, Any]:
    """PCodec's differences along a flat chunk. Time is its fast axis: of few steps, more would be across parameters."""
    if num_steps == 1:
        return {"delta_spec": "none"}
    return {"delta_spec": "try_consecutive", "delta_encoding_order": 1 if num_steps < 16 else 2}


def _write_chunk(array: zarr.Array, rows: slice, columns: slice, block: NDArray[Any]) -> None:
    # contiguous, because PCodec reads a whole chunk's memory as it lies (zarr 3.1.6), whatever its strides
    array[rows, columns] = np.ascontiguousarray(block[:, rows].T)
