"""The numba engine: fast on the CPU.

Packing runs on torch's own threads (`team`), sorting and merging on as many of Python's, a layer each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.compiling import compiled
from reluscope.counting.packing import Keys, Packer
from reluscope.counting.sorted_counts import KeyBuffers, SortedCounts
from reluscope.patterns import ClassCounts, class_dtype, key_dtype

Run = tuple[Keys, NDArray[Any]]
_Labelled = tuple[Keys, NDArray[Any], NDArray[Any]]  # a run with the class of each of its keys

_FEW_KEYS = 1 << 14  # of 16 bits: sorted faster than counted in a table


class NumbaCounter:
    """`SortedCounts`, filled by the compiled packing kernel."""

    settles_in_threads = True

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        dtype = key_dtype(num_channels)
        count = _count_short if dtype == np.uint16 else _count_by_sorting
        self._num_channels = num_channels
        self._packer = Packer(num_channels)
        self._keys: SortedCounts[Keys] = buffers.add(SortedCounts(lambda n: np.empty(n, dtype), count, _merge))

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        values = preactivation.cpu()
        self._packer.pack(values, self._keys.room(values.numel() // self._num_channels, labels))

    @property
    def num_nan(self) -> int:
        return int(self._packer.num_nan[0])

    def result(self) -> tuple[Keys, NDArray[np.int64]]:
        keys, counts = self._keys.result()
        return keys, counts.astype(np.int64)

    def result_by_class(self, num_classes: int) -> tuple[Keys, ClassCounts]:
        dtype = class_dtype(num_classes)
        runs = self._keys.runs()
        keys, index, counts = _interleaved(
            [(keys, np.full(len(keys), label, dtype), counts) for label, (keys, counts) in runs.items()]
        )
        distinct = np.empty(_num_distinct(keys), keys.dtype)
        num_classes_of = np.empty(len(distinct), dtype)
        _run_lengths(keys, distinct, num_classes_of)
        return distinct, ClassCounts(num_classes, num_classes_of, index, counts)

    def pair_counts(self, labelling: int) -> NDArray[Any]:
        return np.concatenate([counts for _, counts in self._keys.runs(labelling).values()])


def _count_short(keys: Keys) -> Run:
    """Of 16-bit keys. A table takes as long for few keys as for many: a class may have few."""
    return _count_in_table(keys) if len(keys) > _FEW_KEYS else _count_by_sorting(keys)


def _count_in_table(keys: Keys) -> Run:
    table = _tally(keys)
    distinct = np.flatnonzero(table)
    return distinct.astype(keys.dtype), table[distinct]


@compiled
def _tally(keys):  # type: ignore[no-untyped-def]
    """How often each of 65,536 keys occurs; two tables, so that equal neighbours do not wait for each other."""
    even, odd = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    for i in range(0, len(keys) - 1, 2):
        even[keys[i]] += 1
        odd[keys[i + 1]] += 1
    if len(keys) % 2:
        even[keys[-1]] += 1
    return even + odd


def _count_by_sorting(keys: Keys) -> Run:
    keys.sort()  # NumPy's vectorised quicksort; on AVX-512 it was 2 to 5 times as fast as a radix sort in numba
    distinct = np.empty(_num_distinct(keys), keys.dtype)
    counts = np.empty(len(distinct), _count_dtype(len(keys)))
    _run_lengths(keys, distinct, counts)
    return distinct, counts


def _count_dtype(total: int) -> type[np.unsignedinteger] | type[np.signedinteger]:
    """Half the memory where it suffices."""
    return np.uint32 if total < 1 << 32 else np.int64


@compiled
def _num_distinct(keys):  # type: ignore[no-untyped-def]
    """Of a sorted array."""
    num_distinct = min(len(keys), 1)
    for i in range(1, len(keys)):
        num_distinct += keys[i] != keys[i - 1]
    return num_distinct


@compiled
def _run_lengths(keys, distinct, counts):  # type: ignore[no-untyped-def]
    """The distinct keys of a sorted array, and how often each occurs."""
    if len(keys) == 0:
        return
    last, start = 0, 0
    distinct[0] = keys[0]
    for i in range(1, len(keys)):
        is_new = keys[i] != keys[i - 1]
        counts[last] = i - start  # right once the run has ended
        last += is_new
        start = i if is_new else start
        distinct[last] = keys[i]
    counts[last] = len(keys) - start


def _merge(first: Run, second: Run, total: int) -> Run:
    keys = np.empty(len(first[0]) + len(second[0]), first[0].dtype)
    counts = np.empty(len(keys), _count_dtype(total))
    num_distinct = _merge_into(keys, counts, *first, *second)
    keys.resize(num_distinct, refcheck=False)  # gives the slack back without a copy
    counts.resize(num_distinct, refcheck=False)
    return keys, counts


@compiled
def _merge_into(keys, counts, keys_a, counts_a, keys_b, counts_b):  # type: ignore[no-untyped-def]
    """Merges two runs without branching on the keys: no processor can predict which of two random ones is smaller."""
    a = b = num_distinct = 0
    while a < len(keys_a) and b < len(keys_b):
        key_a, key_b = keys_a[a], keys_b[b]
        take_a, take_b = key_a <= key_b, key_b <= key_a
        keys[num_distinct] = key_a if take_a else key_b
        counts[num_distinct] = (counts_a[a] if take_a else 0) + (counts_b[b] if take_b else 0)
        a += take_a
        b += take_b
        num_distinct += 1
    num_distinct = _append(keys, counts, num_distinct, keys_a[a:], counts_a[a:])
    return _append(keys, counts, num_distinct, keys_b[b:], counts_b[b:])


@compiled
def _append(keys, counts, start, more_keys, more_counts):  # type: ignore[no-untyped-def]
    stop = start + len(more_keys)
    keys[start:stop] = more_keys
    counts[start:stop] = more_counts
    return stop


def _interleaved(runs: list[_Labelled]) -> _Labelled:
    """One run of several, merged two by two: equal keys of different classes stay apart, in the order of the runs."""
    while len(runs) > 1:
        merged = []
        while len(runs) > 1:
            first, second = runs.pop(0), runs.pop(0)
            length = len(first[0]) + len(second[0])
            keys, index = (np.empty(length, array.dtype) for array in first[:2])
            counts = np.empty(length, np.promote_types(first[2].dtype, second[2].dtype))
            _interleave_into(keys, index, counts, *first, *second)
            merged.append((keys, index, counts))
        runs = [*merged, *runs]
    return runs[0]


@compiled
def _interleave_into(keys, index, counts, keys_a, index_a, counts_a, keys_b, index_b, counts_b):  # type: ignore[no-untyped-def]
    """Merges two runs, those of `a` first where keys are equal; without branching on the keys, as `_merge_into`."""
    a = b = 0
    while a < len(keys_a) and b < len(keys_b):
        take_a = keys_a[a] <= keys_b[b]
        keys[a + b] = keys_a[a] if take_a else keys_b[b]
        index[a + b] = index_a[a] if take_a else index_b[b]
        counts[a + b] = counts_a[a] if take_a else counts_b[b]
        b += not take_a
        a += take_a
    _append(keys, counts, _append(keys, counts, a + b, keys_a[a:], counts_a[a:]), keys_b[b:], counts_b[b:])
    index[a + b : len(index_a) + b] = index_a[a:]
    index[len(index_a) + b :] = index_b[b:]
