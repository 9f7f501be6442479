"""From a data spec to image tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from reluscope.data.cifar import cifar10_source, cifar100_source
from reluscope.data.digits import digits_source
from reluscope.data.imagefolder import imagefolder_source
from reluscope.data.images import Dataset, ImageSet, channel_statistics
from reluscope.data.own import arrays_source, imported_source
from reluscope.data.selection import balanced_subset
from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec, capped
from reluscope.data.streaming import StreamedImages, as_tensor

STREAMED_ABOVE = 2 << 30
"""Bytes of raw images that are held in memory; what takes more is streamed, unless `stream` says otherwise."""

_BLOCK_BYTES = 32 << 20

_SOURCES: dict[str, Callable[[DataSpec], Source]] = {
    "digits": digits_source,
    "cifar10": cifar10_source,
    "cifar100": cifar100_source,
    "imagefolder": imagefolder_source,
    "arrays": arrays_source,
    "import": imported_source,
}


def load(spec: DataSpec) -> Dataset:
    """The images that `spec` names, for the CPU, always the same ones in the same order.

    Raises:
        FileNotFoundError: the data's file or folder is missing, or CIFAR could not be downloaded.
        ValueError: the images cannot be used, or there are fewer than `images` or `test_images`.
    """
    source = _SOURCES[spec.name](spec)
    if source.test is None and spec.test_images is not None:
        raise ValueError(
            f"data.test_images: expected none, {spec.described} has no test images, but got {spec.test_images}"
        )

    images, labels = _select(source, source.train, "data.images", spec.images, spec.stream)
    statistics: tuple[Tensor | None, Tensor | None] = (None, None)
    if images.dtype == torch.uint8:
        mean, std = source.statistics or channel_statistics(_blocks(images))
        statistics = torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(std, dtype=torch.float32)
    train = ImageSet(images, labels, *statistics)

    test = None
    if source.test is not None:
        images, labels = _select(source, source.test, "data.test_images", spec.test_images, spec.stream)
        test = ImageSet(images, labels, *statistics)
    return Dataset(train, test, len(source.class_names), source.class_names, source.unusable)


def _select(
    source: Source, split: Split, key: str, requested: int | None, stream: bool | None
) -> tuple[Tensor | StreamedImages, Tensor | None]:
    """A fixed subset of a split, class-balanced where there are labels: images and labels."""
    classes = np.zeros(split.size, np.int64) if split.labels is None else split.labels
    chosen = balanced_subset(classes, capped(key, requested, split.size))
    labels = None if split.labels is None else torch.from_numpy(split.labels[chosen])
    first = split.read(chosen[:1])
    if stream is None:
        stream = source.in_parts and first.nbytes * len(chosen) > STREAMED_ABOVE
    if stream:
        return StreamedImages(lambda indices: split.read(chosen[indices]), len(chosen)), labels

    images = np.empty((len(chosen), *first.shape[1:]), first.dtype)
    progress = tqdm(total=len(chosen), desc="Reading images", unit="image", disable=None, leave=False)
    with progress:
        for start, stop in _ranges(len(chosen), first.nbytes):
            images[start:stop] = split.read(chosen[start:stop])
            progress.update(stop - start)
    return as_tensor(images), labels


def _blocks(images: Tensor | StreamedImages) -> Iterator[NDArray[np.uint8]]:
    """uint8 images [n, c, h, w] in blocks [k, h, w, c]."""
    for start, stop in _ranges(len(images), images.shape[1:].numel()):
        yield images[start:stop].permute(0, 2, 3, 1).numpy()


def _ranges(size: int, item_bytes: int) -> Iterator[tuple[int, int]]:
    """First and end of blocks of `_BLOCK_BYTES`, or of one item where that is more."""
    length = max(1, _BLOCK_BYTES // item_bytes)
    for start in range(0, size, length):
        yield start, min(start + length, size)
