"""Reading the weights store."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from reluscope import stores
from reluscope.checkpoints.layout import KINDS, Layout


class WeightsStore:
    """Every dumped step's weights of one run.

    Attributes:
        steps: the dumped steps, int64, shape [step], ascending.
        epochs: the same in epochs, float64, shape [step].
        evaluated_steps: the steps whose test accuracy was taken, int64, shape [evaluated_step].
        test_accuracy: share of test images classified rightly there, float64, shape [evaluated_step].
        attributes: the run's settings: network, data, method, seed, versions.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        group = stores.open_store(path, "weights")
        stores.require_ascending(group, "step")
        self._arrays = dict(group.arrays())
        self.attributes: dict[str, Any] = dict(group.attrs)
        self.steps: NDArray[np.int64] = stores.read(self._arrays["step"])
        self.epochs: NDArray[np.float64] = stores.read(self._arrays["epoch"])
        self.evaluated_steps: NDArray[np.int64] = stores.read(self._arrays["evaluated_step"])
        self.test_accuracy: NDArray[np.float64] = stores.read(self._arrays["test_accuracy"])
        self.layout = Layout.from_attributes({kind: self._arrays[kind].attrs["entries"] for kind in KINDS})  # type: ignore[arg-type, misc]
        self._block: dict[str, NDArray[Any]] = {}
        self._block_index = -1

    def load_into(self, network: nn.Module, step: int) -> None:
        """Put the network into the state of `step`, bit for bit: parameters and buffers.

        Neighbouring steps share a block, which is read once and kept.

        Raises:
            ValueError: the step was not dumped, or the network has other tensors than the run's.
            StoreError: the block is damaged.
        """
        index = int(np.searchsorted(self.steps, step))
        if index == len(self.steps) or self.steps[index] != step:
            near = self.steps[np.abs(self.steps - step).argmin()]
            raise ValueError(
                f"{self.path}: step {step} was not dumped; there are {len(self.steps)} steps from {self.steps[0]} to "
                f"{self.steps[-1]}, the nearest is {near}"
            )
        if difference := self.layout.difference(Layout.of(network)):
            raise ValueError(f"{self.path}: the network does not fit the stored one: {difference}")
        block_steps = self._arrays["parameters"].chunks[1]
        block, column = divmod(index, block_steps)
        if block != self._block_index:
            start = block * block_steps
            columns = slice(start, min(start + block_steps, len(self.steps)))
            self._block = {
                kind: stores.read(self._arrays[kind], (slice(None), columns), steps=self.steps[columns])
                for kind in KINDS
            }
            self._block_index = block
        vectors = {kind: np.ascontiguousarray(values[:, column]) for kind, values in self._block.items()}
        self.layout.copy_into(network, vectors)

    def scalar(self, name: str) -> NDArray[np.float64]:
        """learning_rate, train_loss or train_accuracy; float64, shape [step], NaN at step 0."""
        return stores.read(self._arrays[name])

    def __repr__(self) -> str:
        return f"WeightsStore({self.path!r}: {len(self.steps)} steps, {self.steps[0]} to {self.steps[-1]})"


def open_weights(path: str | os.PathLike[str]) -> WeightsStore:
    """Open a run's weights store.

    Example:
        >>> store = open_weights("results/runs/resnet20-seed0/weights.zarr")  # doctest: +SKIP
        >>> store.load_into(network, step=40)  # doctest: +SKIP

    Raises:
        StoreError: there is none, it is unfinished, or it is a store of another kind.
    """
    return WeightsStore(path)
