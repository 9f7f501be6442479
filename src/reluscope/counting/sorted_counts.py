"""Counts any number of keys in memory bounded by the distinct ones, by sorting and merging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Array(Protocol):
    """A one-dimensional NumPy array or torch tensor."""

    def __len__(self) -> int: ...


A = TypeVar("A", bound=Array)

BUFFER_KEYS = 1 << 21
"""Keys a layer gathers at least before they are sorted: 16 MiB of 64-bit keys."""


class SortedCounts(Generic[A]):
    """One sorted run, a pair (distinct keys ascending, their counts), and a buffer of keys that are not in it yet.

    The buffer is merged once it holds `buffer_keys` keys and no fewer than the run. So memory stays proportional to
    the distinct keys (and `buffer_keys`, and one batch), and all merging together passes over at most twice the keys
    that were added: a sort is cheaper than the repeated merges of a fixed buffer.

    Args:
        count: makes a run from unsorted keys, given in pieces.
        merge: makes one run of two, adding up the counts of keys that are in both.
        buffer_keys: the least number of keys that are merged at once.
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
        self._buffer: list[A] = []
        self._num_buffered = 0
        self._run: tuple[A, Any] | None = None

    def add(self, keys: A) -> None:
        self._buffer.append(keys)
        self._num_buffered += len(keys)
        num_distinct = 0 if self._run is None else len(self._run[0])
        if self._num_buffered >= max(self._buffer_keys, num_distinct):
            self._flush()

    def result(self) -> tuple[A, Any]:
        """All keys added so far, as one run; at least one must have been."""
        if self._buffer:
            self._flush()
        assert self._run is not None
        return self._run

    def _flush(self) -> None:
        run = self._count(self._buffer)
        self._buffer, self._num_buffered = [], 0
        self._run = run if self._run is None else self._merge(self._run, run)
