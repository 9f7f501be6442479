"""The hash engine: counts keys in an open-addressing table in the GPU's memory, exactly, as they come.

Each slot holds a key and its count. A program takes a block of keys, sorts it and adds up equal ones, so that a hot key
is one update per program, and puts what is left into the table: it finds each key's slot by linear probing, and claims
an empty one by compare-and-swap (Jünger et al. 2020, "WarpCore", section 3, is the same without the first part). The
table grows before it can be more than `_MOST_FULL` full, so that probing always ends. Nothing is lost: this is no list
of fixed size as in Algorithm 1 of the paper.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.device import Run, unsigned
from reluscope.counting.nan import count_nan
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.counting.triton_kernels import TritonCounter

_EMPTY = tl.constexpr(-(1 << 63))  # the key with channel 63 alone, which is counted beside the table
_BLOCK = tl.constexpr(1024)  # keys per program
_MOST_FULL = 0.6
_FEWEST_SLOTS = 1 << 16


class HashCounter(TritonCounter):
    """A `HashTable` for any number of channels; `SortedCounts`, as `TritonCounter`, where classes are told apart."""

    def __init__(self, num_channels: int, device: torch.device, buffers: KeyBuffers) -> None:
        super().__init__(num_channels, device, buffers)
        self._table = HashTable(device)

    def add(self, preactivation: Tensor, labels: NDArray[np.int64] | None = None) -> None:
        if labels is not None:
            super().add(preactivation, labels)
            return
        self._num_nan = self._num_nan + count_nan(preactivation)
        keys = torch.empty(
            preactivation.numel() // self._num_channels,
            dtype=torch.int32 if self._num_channels <= 32 else torch.int64,
            device=preactivation.device,
        )
        self._pack(preactivation, keys)
        self._table.add(keys)

    def result(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        if self._keys is not None:
            return super().result()
        return unsigned(self._table.take(), self._num_channels)


class HashTable:
    """Signed keys of up to 64 bits and how often each was added."""

    def __init__(self, device: torch.device, num_slots: int = _FEWEST_SLOTS) -> None:
        self._slots, self._counts = _empty_table(num_slots, device)
        self._num_empty_keys = torch.zeros(1, dtype=torch.int64, device=device)  # of the key that stands for empty
        self._num_distinct = torch.zeros(1, dtype=torch.int64, device=device)  # in the table
        self._most_distinct = 0  # as far as is known without waiting for the device

    @property
    def num_slots(self) -> int:
        return len(self._counts)

    def add(self, keys: Tensor) -> None:
        """Counts each of these keys once more; int32 or int64, shape [n]."""
        if len(keys) == 0:
            return
        self._make_room(len(keys))
        self._insert(keys, keys, are_distinct=False)

    def take(self) -> Run:
        """The distinct keys, ascending, int64, and their counts; the table gives its memory away."""
        is_used = self._slots[: self.num_slots] != _EMPTY.value
        keys, counts = self._slots[: self.num_slots][is_used], self._counts[is_used]
        del self._slots, self._counts
        keys, order = keys.sort()
        counts = counts[order]
        if int(self._num_empty_keys) > 0:  # the smallest of all
            keys = torch.cat([keys.new_full((1,), _EMPTY.value), keys])
            counts = torch.cat([self._num_empty_keys, counts])
        return keys, counts

    def _make_room(self, num_keys: int) -> None:
        if self._most_distinct + num_keys > _MOST_FULL * self.num_slots:
            self._most_distinct = int(self._num_distinct)  # all keys may be new, but most are not
        if self._most_distinct + num_keys > _MOST_FULL * self.num_slots:
            self._grow(self._most_distinct + num_keys)
        self._most_distinct += num_keys

    def _grow(self, num_keys: int) -> None:
        slots, counts = self._slots, self._counts
        num_slots = self.num_slots
        while num_keys > _MOST_FULL * num_slots:
            num_slots *= 2
        self._slots, self._counts = _empty_table(num_slots, slots.device)
        self._num_distinct.zero_()
        self._insert(slots[: len(counts)], counts, are_distinct=True)

    def _insert(self, keys: Tensor, counts: Tensor, *, are_distinct: bool) -> None:
        with torch.cuda.device_of(keys):
            _insert_kernel[(triton.cdiv(len(keys), _BLOCK.value),)](
                keys, counts, self._slots, self._counts, self._num_empty_keys, self._num_distinct, len(keys),
                self.num_slots, are_distinct, _BLOCK.value,
            )  # fmt: skip


def _empty_table(num_slots: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Keys of all slots and some spare ones that are never empty, and counts of all slots; a power of two."""
    slots = torch.full((num_slots + _BLOCK.value,), _EMPTY.value, dtype=torch.int64, device=device)
    slots[num_slots:] = 0
    return slots, torch.zeros(num_slots, dtype=torch.int64, device=device)


@triton.jit
def _insert_kernel(
    keys, counts, table_keys, table_counts, num_empty_keys, num_distinct, num_keys, num_slots,
    are_distinct: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Adds keys [num_keys], each once, or where they are distinct with their counts, leaving empty ones out."""
    lane = tl.arange(0, block)
    index = tl.program_id(0).to(tl.int64) * block + lane
    is_real = index < num_keys
    key = tl.load(keys + index, mask=is_real, other=0).to(tl.int64)
    key = tl.where(is_real, key, _EMPTY)
    if are_distinct:
        count = tl.load(counts + index, mask=is_real, other=0)
        pending = key != _EMPTY
    else:
        empty = tl.sum((is_real & (key == _EMPTY)).to(tl.int64), axis=0)
        if empty > 0:
            tl.atomic_add(num_empty_keys, empty, sem="relaxed")
        key = tl.sort(key)
        # the last of each run of equal keys stands for all of them
        is_last = (lane == block - 1) | (key != tl.gather(key, tl.minimum(lane + 1, block - 1), 0))
        last_until = tl.associative_scan(tl.where(is_last, lane, -1), 0, _larger)
        before = tl.where(lane == 0, -1, tl.gather(last_until, tl.maximum(lane - 1, 0), 0))
        count = (lane - before).to(tl.int64)
        pending = is_last & (key != _EMPTY)
    is_mine = pending
    slot = _hash(key) & (num_slots - 1)
    num_new = tl.zeros((block,), tl.int64)
    while tl.max(pending.to(tl.int32), axis=0) > 0:
        # what lies there never changes again once it is a key; an old view of an empty slot is told by the swap
        found = tl.load(table_keys + slot, mask=pending, other=0)
        is_vacant = pending & (found == _EMPTY)
        if tl.max(is_vacant.to(tl.int32), axis=0) > 0:
            # a swap has no mask: the others try theirs on spare slots, which are never empty
            where = tl.where(is_vacant, slot, num_slots + lane)
            old = tl.atomic_cas(table_keys + where, tl.full((block,), _EMPTY, tl.int64), key, sem="relaxed")
            is_new = is_vacant & (old == _EMPTY)
            num_new += is_new.to(tl.int64)
            found = tl.where(is_new, key, tl.where(is_vacant, old, found))
        pending = pending & (found != key)
        slot = tl.where(pending, (slot + 1) & (num_slots - 1), slot)
    tl.atomic_add(table_counts + slot, count, mask=is_mine, sem="relaxed")
    new = tl.sum(num_new, axis=0)
    if new > 0:
        tl.atomic_add(num_distinct, new, sem="relaxed")


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _hash(key):
    """MurmurHash3's finalizer, whose low bits depend on every bit of the key; not negative."""
    mixed = key ^ ((key >> 33) & 0x7FFFFFFF)
    mixed = mixed * -49064778989728563
    mixed = mixed ^ ((mixed >> 33) & 0x7FFFFFFF)
    mixed = mixed * -4265267296055464877
    mixed = mixed ^ ((mixed >> 33) & 0x7FFFFFFF)
    return mixed & 0x7FFFFFFFFFFFFFFF
