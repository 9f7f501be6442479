"""Counts any number of keys in memory bounded by the distinct ones, by sorting and merging."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

BUFFER_BYTES = 1 << 30
"""What the keys of all layers may take before they are sorted, unless their distinct ones take more: 1 GiB."""


class Array(Protocol):
    """A one-dimensional NumPy array or torch tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: Any, /) -> Any: ...

    def __setitem__(self, item: slice, value: Self, /) -> None: ...

    def reshape(self, shape: Any, /) -> Any: ...

    @property
    def itemsize(self) -> int: ...


A = TypeVar("A", bound=Array)


class SortedCounts(Generic[A]):
    """One layer's keys: a sorted run, that is the distinct keys ascending and their counts, and a buffer not in it yet.

    Where labels come with the keys there is a run for each class, and one for each class of each further labelling.
    Keys wait as they come and are told apart when they are sorted: of any number of classes, one large copy.

    Args:
        new: an uninitialised array for so many keys.
        count: makes a run of unsorted keys, which it may overwrite.
        merge: makes one run of two, adding up the counts of keys that are in both, given the sum of all counts.
    """

    def __init__(
        self,
        new: Callable[[int], A],
        count: Callable[[A], tuple[A, Any]],
        merge: Callable[[tuple[A, Any], tuple[A, Any], int], tuple[A, Any]],
    ) -> None:
        self._new = new
        self._count = count
        self._merge = merge
        self._buffer: A | None = None
        self._labels: list[NDArray[np.int64]] = []  # of the images whose keys wait
        self._runs: dict[tuple[int, int], tuple[A, Any]] = {}  # by labelling and class; one without labels
        self._num_settled = 0
        self.num_waiting = 0

    def room(self, num_keys: int, labels: NDArray[np.int64] | None = None) -> A:
        """Where the caller writes the next keys, which count as added from now on.  Shape [num_keys].

        Args:
            labels: classes of the images that the keys are of, image by image; [labelling, images]. Always or never.
        """
        if labels is not None:
            self._labels.append(labels)
        if self._buffer is None or (needed := self.num_waiting + num_keys) > len(self._buffer):
            # half as much again where batches grow, so that not each of them copies what waits
            self.reserve(num_keys if self.num_waiting == 0 else needed + needed // 2)
        assert self._buffer is not None
        self.num_waiting += num_keys
        return self._buffer[self.num_waiting - num_keys : self.num_waiting]

    def reserve(self, num_keys: int) -> None:
        """Make the buffer so large, waiting keys included, that it need not grow until then."""
        if self.num_waiting == 0:
            self._buffer = None  # so that old and new are never there together
        grown = self._new(num_keys)
        if self._buffer is not None:
            grown[: self.num_waiting] = self._buffer[: self.num_waiting]
        self._buffer = grown

    @property
    def key_bytes(self) -> int:
        """Bytes of a key; known with the first."""
        assert self._buffer is not None
        return self._buffer.itemsize

    @property
    def num_distinct(self) -> int:
        """Distinct keys in the run, or in all of them."""
        return sum(len(keys) for keys, _ in self._runs.values())

    def settle(self, *, keep_buffer: bool) -> None:
        """Sort what waits into the run."""
        assert self._buffer is not None
        waiting = self._buffer[: self.num_waiting]
        self._num_settled += self.num_waiting
        if self._labels:
            for labelling, labels in enumerate(np.concatenate(self._labels, axis=1)):
                for label, keys in _by_class(waiting, labels):
                    self._take_in((labelling, label), keys)
            self._labels = []
        else:
            self._take_in((0, 0), waiting)
        self.num_waiting = 0
        if not keep_buffer:
            self._buffer = None

    def _take_in(self, where: tuple[int, int], keys: A) -> None:
        run = self._count(keys)
        self._runs[where] = self._merge(self._runs[where], run, self._num_settled) if where in self._runs else run

    def result(self) -> tuple[A, Any]:
        """All keys as one run; at least one was added, without labels, and none waits."""
        (run,) = self.runs().values()
        return run

    def runs(self, labelling: int = 0) -> dict[int, tuple[A, Any]]:
        """The runs of a labelling's classes, ascending, those without images left out; none waits."""
        assert self.num_waiting == 0
        return {label: self._runs[of, label] for of, label in sorted(self._runs) if of == labelling}


def _by_class(keys: A, labels: NDArray[np.int64]) -> Iterator[tuple[int, A]]:
    """The keys of each class's images, each class once."""
    order = np.argsort(labels, kind="stable")
    positions = len(keys) // max(len(labels), 1)
    grouped = keys.reshape((len(labels), positions))[order].reshape((-1,))
    present, sizes = np.unique(labels, return_counts=True)
    ends = np.cumsum(sizes) * positions
    for label, start, end in zip(present.tolist(), (ends - sizes * positions).tolist(), ends.tolist(), strict=True):
        yield label, grouped[start:end]


class KeyBuffers:
    """The key buffers of all layers of a network: how large they are, and when they are sorted, all at once.

    They are sorted before another batch as large as the largest so far would make them hold more than `limit` bytes, or
    more keys than were found distinct where these are more. So memory stays proportional to the distinct keys (and
    `limit`, and one batch), and all merging together passes over at most four times the keys that were added, however
    many these are.

    Args:
        num_batches: how often `end_batch` will be called.
        limit: bytes; fewer are slower, because sorted runs are merged more often.
        num_threads: layers that are sorted at the same time.
    """

    def __init__(self, num_batches: int, limit: int = BUFFER_BYTES, num_threads: int = 1) -> None:
        self._batches_left = num_batches
        self._limit = limit
        self._num_threads = num_threads
        self._layers: list[SortedCounts[Any]] = []
        self._waited: list[int] = []  # before this batch, by layer
        self._keys_a_batch: list[int] = []  # in the largest batch so far, by layer
        self._batches_waiting = 0
        self._capacity = 0  # in batches

    def add(self, layer: SortedCounts[A]) -> SortedCounts[A]:
        """Take a layer in, before its first key, which may come with any batch."""
        self._layers.append(layer)
        self._waited.append(0)
        self._keys_a_batch.append(0)
        return layer

    def end_batch(self) -> None:
        """To be called when each layer has added the keys of one batch, as many as it likes.

        After the last one nothing waits any more.
        """
        self._batches_left -= 1
        self._batches_waiting += 1
        for i, layer in enumerate(self._layers):
            self._keys_a_batch[i] = max(self._keys_a_batch[i], layer.num_waiting - self._waited[i])
        if self._batches_left == 0:
            self._settle()
        elif (
            self._bytes(layer.num_waiting for layer in self._layers) + self._bytes(self._keys_a_batch) > self._allowed()
        ):
            self._settle()
            self._plan()
        elif self._capacity == 0:
            self._plan()
        self._waited = [layer.num_waiting for layer in self._layers]

    def _bytes(self, num_keys: Iterable[int]) -> int:
        return sum(n * layer.key_bytes for n, layer in zip(num_keys, self._layers, strict=True))

    def _allowed(self) -> int:
        """Bytes of keys that may wait."""
        return max(self._limit, self._bytes(layer.num_distinct for layer in self._layers))

    def _plan(self) -> None:
        wanted = self._allowed() // max(self._bytes(self._keys_a_batch), 1)
        previous = self._capacity
        self._capacity = max(1, min(wanted, self._batches_waiting + self._batches_left))
        if self._capacity > max(previous, 1):
            for keys, layer in zip(self._keys_a_batch, self._layers, strict=True):
                layer.reserve(keys * self._capacity)

    def _settle(self) -> None:
        keep_buffer = self._batches_left > 0
        if self._num_threads == 1:
            for layer in self._layers:
                layer.settle(keep_buffer=keep_buffer)
        else:
            largest_first = sorted(self._layers, key=lambda layer: layer.num_waiting, reverse=True)
            with ThreadPoolExecutor(self._num_threads) as pool:
                list(pool.map(lambda layer: layer.settle(keep_buffer=keep_buffer), largest_first))
        self._batches_waiting = 0
