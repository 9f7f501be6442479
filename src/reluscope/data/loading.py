"""From a data spec to image tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from reluscope.data.cifar import cifar10_source, cifar100_source
from reluscope.data.digits import digits_source
from reluscope.data.imagefolder import imagefolder_source
from reluscope.data.images import Dataset, ImageSet, channel_statistics
from reluscope.data.selection import balanced_subset
from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec, capped

_SOURCES: dict[str, Callable[[DataSpec], Source]] = {
    "digits": digits_source,
    "cifar10": cifar10_source,
    "cifar100": cifar100_source,
    "imagefolder": imagefolder_source,
}


def load(spec: DataSpec) -> Dataset:
    """The images that `spec` names, on the CPU, always the same ones in the same order.

    Raises:
        FileNotFoundError: the data's folder is missing, or CIFAR could not be downloaded.
        ValueError: the folder's images cannot be used, or there are fewer than `images` or `test_images`.
    """
    source = _SOURCES[spec.name](spec)
    if source.test is None and spec.test_images is not None:
        raise ValueError(
            f"data.test_images: expected none, {spec.path!r} has no test images, but got {spec.test_images}"
        )

    images, labels = _select(source.train, "data.images", spec.images)
    mean, std = channel_statistics(images) if source.statistics is None else source.statistics
    statistics = torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(std, dtype=torch.float32)
    train = ImageSet(_channels_last(images), torch.from_numpy(labels), *statistics)

    test = None
    if source.test is not None:
        images, labels = _select(source.test, "data.test_images", spec.test_images)
        test = ImageSet(_channels_last(images), torch.from_numpy(labels), *statistics)
    return Dataset(train, test, len(source.class_names), source.class_names)


def _select(split: Split, key: str, requested: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    chosen = balanced_subset(split.labels, capped(key, requested, len(split.labels)))
    return split.read(chosen), split.labels[chosen]


def _channels_last(images: NDArray[np.uint8]) -> torch.Tensor:
    """Shape [n, h, w, c] to [n, c, h, w], the bytes as they lie."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
