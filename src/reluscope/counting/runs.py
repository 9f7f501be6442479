"""Counts any number of keys in memory bounded by the distinct ones: sorted runs, merged as they grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Array(Protocol):
    """A one-dimensional NumPy array or torch tensor."""

    def __len__(self) -> int: ...


A = TypeVar("A", bound=Array)

BUFFER_KEYS = 1 << 21
"""Keys a layer gathers before they are sorted: 16 MiB of 64-bit keys."""


class SortedRuns(Generic[A]):
    """A stack of sorted runs, each a pair (distinct keys ascending, their counts).

    Each run is at least twice as long as the next, so there are at most log2(distinct) of them, they hold at most twice
    the distinct keys, and a key is merged about that many times. Beside the runs it holds fewer than `buffer_keys` keys
    and one more batch.

    Args:
        count: makes a run from unsorted keys, given in pieces.
        merge: makes one run of two, adding up the counts of keys that are in both.
        buffer_keys: keys gathered before they become a run.
    """

    def __init__(
        self,
        count: Callable[[list[A]], tuple[A, Any]],
        merge: Callable[[tuple[A, Any], tuple[A, Any]], tuple[A, Any]],
        buffer_keys: int = BUFFER_KEYS,
    ) -> None:
        self._count = count
        self._merge = merge
        self._buffer_keys = buffer_keys
        self._pending: list[A] = []
        self._num_pending = 0
        self._runs: list[tuple[A, Any]] = []

    def add(self, keys: A) -> None:
        self._pending.append(keys)
        self._num_pending += len(keys)
        if self._num_pending >= self._buffer_keys:
            self._flush()

    def _flush(self) -> None:
        run = self._count(self._pending)
        self._pending, self._num_pending = [], 0
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            run = self._merge(self._runs.pop(), run)
        self._runs.append(run)

    def result(self) -> tuple[A, Any]:
        """All keys added so far as one run; empties the stack."""
        if self._pending:
            self._flush()
        run = self._runs.pop()
        while self._runs:
            run = self._merge(self._runs.pop(), run)
        return run
