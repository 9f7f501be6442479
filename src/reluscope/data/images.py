"""Images in memory: one uint8 tensor a set, normalised batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in one fixed order.

    Attributes:
        images: uint8, shape [n, c, h, w], channels_last.
        labels: int64, shape [n].
        mean, std: float32, shape [c], in units of 0..1 (0 is black, 1 is 255).
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """The normalised images of a slice or an int64 tensor of indices.  float32 [b, c, h, w], channels_last."""
        return self.normalise(self.take(index))

    def take(self, index: slice | Tensor) -> Tensor:
        """The raw images of a slice or an int64 tensor of indices.  uint8 [b, c, h, w], channels_last."""
        if isinstance(index, slice):
            return self.images[index]
        # Whole images are contiguous in [n, h, w, c]: 12 times as fast as indexing [n, c, h, w] (128 of 3 x 32 x 32).
        return self.images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)

    def normalise(self, batch: Tensor) -> Tensor:
        """(x / 255 - mean) / std of uint8 images [b, c, h, w], raw or augmented.  float32, the memory format kept.

        Bit for bit what torchvision's ToTensor and Normalize make of the same images on the CPU.
        """
        return batch.float().div_(255).sub_(self.mean[:, None, None]).div_(self.std[:, None, None])

    def to(self, device: torch.device | str) -> ImageSet:
        """The same images on `device`."""
        tensors = {name: getattr(self, name).to(device) for name in ("images", "labels", "mean", "std")}
        return replace(self, **tensors)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images of a study.

    Attributes:
        train: the training images.
        test: the test images, or None where the data have none.
        num_classes: labels run from 0 to num_classes - 1.
        class_names: shape [num_classes].
    """

    train: ImageSet
    test: ImageSet | None
    num_classes: int
    class_names: tuple[str, ...]


def channel_statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and (population) standard deviation of each channel, in units of 0..1, from exact integer sums.

    A channel that is constant gets the standard deviation 1, so that it normalises to 0.

    Args:
        images: shape [n, h, w, c], n at least 1.
    """
    pixels = images.size // images.shape[-1]
    mean = np.einsum("nhwc->c", images, dtype=np.int64) / pixels
    variance = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64) / pixels - mean**2
    std = np.sqrt(np.where(images.min(axis=(0, 1, 2)) < images.max(axis=(0, 1, 2)), variance, 255.0**2))
    return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)
