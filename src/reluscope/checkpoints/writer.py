"""Writing the weights store: every dumped step, a block of steps at a time, so that a killed training can go on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from reluscope import stores
from reluscope.checkpoints.layout import KINDS, Layout

BLOCK_STEPS = 64
"""Dumped steps a chunk: time is the fast axis, because neighbours in time resemble each other most."""

CHUNK_PARAMETERS = 1 << 16
"""Parameters a chunk: 16 MB raw with 64 steps, so that a block is encoded and decoded by several threads."""

SAVE_SECONDS = 60.0
"""A block that takes longer to fill is saved as far as it is, so that a kill costs a minute at most."""

SCALARS = ("learning_rate", "train_loss", "train_accuracy", "test_accuracy")


class WeightsWriter:
    """Appends steps to an unfinished store in `folder`, and renames it to `final` at the end.

    Opened on a folder that a killed training left, it continues there: `resume_step` is the last step saved, or None.

    Args:
        folder: where the unfinished store is kept.
        final: the finished store's name.
        network: gives the layout.
        steps: the steps to dump, ascending, int64.
        epochs: the same in epochs.
        attributes: what describes the run; a folder left by a run with other attributes is refused.

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
        attributes: Mapping[str, Any],
    ) -> None:
        self._folder, self._final, self._steps = folder, final, steps
        self._layout = Layout.of(network)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise stores.StoreError(
                f"{folder}: another process is training this run; let it finish or stop it"
            ) from None
        self._store, self._state = folder / "weights.zarr", folder / "state.pt"
        self._state_of_optimizer: dict[str, torch.Tensor] = {}
        self._position = 0  # dumped steps so far
        if self._state.is_file() and self._store.exists():
            self._resume(attributes)
        else:
            self._create(epochs, attributes)
        self._saved_at = time.monotonic()

    def _create(self, epochs: NDArray[np.float64], attributes: Mapping[str, Any]) -> None:
        if self._store.exists():  # killed before the first block was saved
            shutil.rmtree(self._store)
        self._group = zarr.create_group(str(self._store), attributes={"kind": "weights", **attributes})
        num_steps = len(self._steps)
        for kind, (dtype, _) in KINDS.items():
            stores.create_array(
                self._group,
                kind,
                shape=(self._layout.size(kind), num_steps),
                dimensions=(kind.removesuffix("s"), "step"),
                dtype=dtype,
                chunks=(CHUNK_PARAMETERS, BLOCK_STEPS),
                # delta of order 2 along the flat chunk: time is its fast axis (0.575 of raw at learning rate 0.1)
                pcodec={"level": 8, "delta_spec": "try_consecutive", "delta_encoding_order": 2},
                attributes={"entries": self._layout.to_attributes(kind)},
            )
        stores.write_array(self._group, "step", self._steps, ("step",))
        stores.write_array(self._group, "epoch", epochs, ("step",))
        for name in SCALARS:
            stores.write_array(self._group, name, np.full(num_steps, np.nan), ("step",))
        self._start_block()

    def _resume(self, attributes: Mapping[str, Any]) -> None:
        self._group = zarr.open_group(str(self._store), mode="r+")
        left, now = dict(self._group.attrs), {"kind": "weights", **attributes}
        if different := [key for key in now if left.get(key) != now[key]]:
            key = different[0]
            raise stores.StoreError(
                f"{self._folder} holds an unfinished training with {key}: {left.get(key)}, but now it is {now[key]}; "
                "restore that to continue it, or delete the folder to train anew"
            )
        state = torch.load(self._state, weights_only=True)
        self._position = state["position"]
        self._state_of_optimizer = state["optimizer"]
        self._start_block()
        first, here = self._block_start, self._position
        for name, block in self._blocks.items():
            block[: here - first] = np.asarray(self._array(name)[..., first:here]).T

    def _start_block(self) -> None:
        self._block_start = self._position // BLOCK_STEPS * BLOCK_STEPS
        self._blocks: dict[str, NDArray[Any]] = {
            kind: np.zeros((BLOCK_STEPS, self._layout.size(kind)), dtype) for kind, (dtype, _) in KINDS.items()
        } | {name: np.full(BLOCK_STEPS, np.nan) for name in SCALARS}

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    @property
    def resume_step(self) -> int | None:
        """The last step a killed training saved; None where there is none."""
        return int(self._steps[self._position - 1]) if self._position else None

    def restore(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Put the network back to `resume_step`; returns the optimizer's tensors of that moment."""
        column = self._position - 1
        vectors = {kind: np.ascontiguousarray(self._array(kind)[:, column]) for kind in KINDS}
        self._layout.copy_into(network, vectors)
        return self._state_of_optimizer

    def append(self, network: nn.Module, scalars: Mapping[str, float], optimizer: Mapping[str, torch.Tensor]) -> None:
        """Dump the next step.

        Args:
            scalars: any of learning_rate, train_loss, train_accuracy, test_accuracy at this step.
            optimizer: tensors that the training needs to go on from here; kept only with the last saved block.
        """
        row = self._position - self._block_start
        self._layout.copy_from(network, {kind: self._blocks[kind][row] for kind in KINDS})
        for name, value in scalars.items():
            self._blocks[name][row] = value
        self._position += 1
        if row + 1 == BLOCK_STEPS or time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save(optimizer)

    def _save(self, optimizer: Mapping[str, torch.Tensor]) -> None:
        first, here = self._block_start, self._position
        for name, block in self._blocks.items():
            self._array(name)[..., first:here] = block[: here - first].T
        temporary = self._state.with_suffix(".tmp")
        torch.save({"position": here, "optimizer": dict(optimizer)}, temporary)
        temporary.replace(self._state)
        self._saved_at = time.monotonic()
        if here - first == BLOCK_STEPS:
            self._start_block()

    def finish(self, optimizer: Mapping[str, torch.Tensor]) -> None:
        """Write what is left and give the store its final name."""
        if self._position != len(self._steps):
            raise RuntimeError(f"finish: {len(self._steps)} steps were announced, {self._position} were written")
        self._save(optimizer)
        stores.finish(self._store, self._final, self._group)
        self._lock.release()
        shutil.rmtree(self._folder)
