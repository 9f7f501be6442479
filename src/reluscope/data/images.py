"""Images, in memory or streamed from disk, normalised batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.data.streaming import StreamedImages


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, or items of any other shape, in one fixed order.

    Attributes:
        images: uint8, shape [n, c, h, w], channels_last; or float32 or int64, shape [n, ...], which a network gets as
            they are.
        labels: int64, shape [n]; None where the data have none.
        mean, std: float32, shape [c], in units of 0..1 (0 is black, 1 is 255); None but for uint8.
    """

    images: Tensor | StreamedImages
    labels: Tensor | None
    mean: Tensor | None
    std: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an item; (channels, height, width) of an image."""
        return tuple(self.images.shape[1:])

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """A network's input of a slice or an int64 tensor of indices; a new tensor.

        Images are normalised: float32 [b, c, h, w], channels_last. Other items are float32 or int64 [b, ...].
        """
        return self.normalise(self.take(index))

    def take(self, index: slice | Tensor) -> Tensor:
        """The raw images of a slice or an int64 tensor of indices.  Images are uint8 [b, c, h, w], channels_last."""
        if isinstance(index, slice) or isinstance(self.images, StreamedImages):
            return self.images[index]
        if self.images.dtype != torch.uint8:
            return self.images.index_select(0, index)
        # Whole images are contiguous in [n, h, w, c]: 12 times as fast as indexing [n, c, h, w] (128 of 3 x 32 x 32).
        return self.images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)

    def normalise(self, batch: Tensor) -> Tensor:
        """(x / 255 - mean) / std of uint8 images [b, c, h, w], raw or augmented; float32.

        The memory format is kept on the CPU, and is the ordinary one on a GPU (`moving.network_format`).

        Bit for bit what torchvision's ToTensor and Normalize make of the same images on the CPU. Other items are
        copied, because a network may begin with an operation in place.
        """
        if self.mean is None or self.std is None:
            return batch.clone()
        normalised = batch.float().div_(255).sub_(self.mean[:, None, None]).div_(self.std[:, None, None])
        return normalised.contiguous() if normalised.is_cuda else normalised

    def to(self, device: torch.device | str) -> ImageSet:
        """The same images on `device`; streamed ones stay where they are stored, and their batches move."""
        present = {name: getattr(self, name) for name in ("images", "labels", "mean", "std")}
        return replace(self, **{name: value.to(device) for name, value in present.items() if value is not None})


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images of a study.

    Attributes:
        train: the training images.
        test: the test images, or None where the data have none.
        num_classes: labels run from 0 to num_classes - 1; 0 without labels.
        class_names: shape [num_classes].
        unusable: why there are no labels although the data have some; None where that is not so.
    """

    train: ImageSet
    test: ImageSet | None
    num_classes: int
    class_names: tuple[str, ...]
    unusable: str | None = None

    def require_labels(self) -> None:
        """Refuse data without labels.

        Raises:
            ValueError: there are none; one line that says why.
        """
        if self.train.labels is None:
            raise ValueError(self.unusable or "data: expected labels, but there are none")


def channel_statistics(blocks: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and (population) standard deviation of each channel, in units of 0..1, from exact counts of its values.

    So they do not depend on how the images are divided into blocks. A channel that is constant gets the standard
    deviation 1, so that it normalises to 0.

    Args:
        blocks: each of shape [n, h, w, c], n at least 1; at least one of them.
    """
    histogram: Any = 0  # [c, 256]
    for block in blocks:
        channels = np.moveaxis(block, -1, 0).reshape(block.shape[-1], -1)
        histogram = histogram + np.stack([np.bincount(channel, minlength=256) for channel in channels])
    values = np.arange(256)
    pixels = histogram.sum(axis=1)
    mean = histogram @ values / pixels
    variance = histogram @ values**2 / pixels - mean**2
    std = np.sqrt(np.where((histogram > 0).sum(axis=1) > 1, variance, 255.0**2))
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)
