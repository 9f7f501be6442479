"""Images that stay where they are stored, and are read batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.data.moving import moved

Read = Callable[[NDArray[np.int64]], NDArray]
"""Takes indices, int64 [k]; gives uint8 [k, h, w, c], or float32 or int64 [k, ...]."""


class StreamedImages:
    """Raw images like a tensor's: `shape`, `dtype`, a slice or an index tensor gives a tensor, `to` a device.

    All reading is done by one thread of its own, so that a data set need not be made for several. After a slice the
    next one of the same length is read ahead, while the network works.

    Args:
        read: reads images.
        size: how many there are.
        device: where the tensors go.
    """

    def __init__(self, read: Read, size: int, device: torch.device | str = "cpu") -> None:
        self._read = read
        self._device = torch.device(device)
        self._thread = ThreadPoolExecutor(1, "reluscope-read")
        self._ahead: tuple[slice, Future[Tensor]] | None = None
        first = self._start(slice(0, 1)).result()
        self.shape = torch.Size((size, *first.shape[1:]))
        self.dtype = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """The raw images of a slice without a step, or of an int64 tensor of indices [b].  A new tensor."""
        if isinstance(index, Tensor):
            read = self._thread.submit(self._tensor, index.cpu().numpy())
        else:
            start, stop, _ = index.indices(len(self))
            read = self._slice_read(slice(start, stop))
        return moved(read.result(), self._device)

    def to(self, device: torch.device | str) -> StreamedImages:
        """The same images, of which batches are moved to `device`."""
        return StreamedImages(self._read, len(self), device)

    def _slice_read(self, wanted: slice) -> Future[Tensor]:
        ahead, read = self._ahead or (None, None)
        if read is None or ahead != wanted:
            if read is not None:
                read.cancel()
            read = self._start(wanted)
        following = slice(wanted.stop, min(2 * wanted.stop - wanted.start, len(self)))
        self._ahead = (following, self._start(following)) if following.stop > following.start else None
        return read

    def _start(self, wanted: slice) -> Future[Tensor]:
        return self._thread.submit(self._tensor, np.arange(wanted.start, wanted.stop))

    def _tensor(self, indices: NDArray[np.int64]) -> Tensor:
        return as_tensor(self._read(indices))


def as_tensor(items: NDArray) -> Tensor:
    """What a split reads, as it lies in memory: uint8 [n, h, w, c] as [n, c, h, w], channels_last; else [n, ...]."""
    tensor = torch.from_numpy(items)
    return tensor.permute(0, 3, 1, 2) if tensor.dtype == torch.uint8 else tensor
