"""What tells the images of one store from those of another.  No torch until images are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from reluscope.stores import StoreError

if TYPE_CHECKING:
    from torch import Tensor

ATTRIBUTE = "data_digest"
"""Of the attributes of a store: the digest of the training images."""

_BLOCKS, _BLOCK = 64, 4


class _Images(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, item: slice, /) -> Tensor: ...


def digest_of(images: _Images) -> str:
    """A digest of images as a network gets them, in their order: 16 hexadecimal digits.

    Of their number, shape, dtype, and of the bits of 256 of them, 64 blocks of 4 that are spread evenly from the first
    to the last. So it takes less than a hundredth of a count, and images in another order, another subset or another
    normalisation differ, but a change within images between these blocks is not noticed.

    Args:
        images: tensor [n, ...], or an object with len() whose slices are such tensors.

    Raises:
        TypeError: a slice is no tensor.
    """
    import torch

    size = len(images)
    length = min(_BLOCK, size)
    last = size - length
    starts = sorted({block * last // (_BLOCKS - 1) for block in range(_BLOCKS)}) if size else []
    digest = hashlib.blake2b(digest_size=8)
    for start in starts:
        block = images[start : start + length]
        if not isinstance(block, torch.Tensor):
            raise TypeError(f"images: expected slices to be tensors, but got {type(block).__name__}")
        if start == starts[0]:
            digest.update(f"{size} {list(block.shape[1:])} {block.dtype}".encode())
        values = block.detach().cpu().contiguous()  # whatever the memory format
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_same_data(stores: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to compare what was made of different images; a store that does not tell is taken.

    Args:
        stores: attributes of stores that are to be compared, by what they are called.

    Raises:
        StoreError: two differ; names both.
    """
    known = {name: attributes[ATTRIBUTE] for name, attributes in stores.items() if attributes.get(ATTRIBUTE)}
    first = next(iter(known), "")
    for name, digest in known.items():
        if digest != known[first]:
            raise StoreError(
                f"{name} was made of other training images, or of the same in another order, than {first} "
                f"({ATTRIBUTE} {digest} and {known[first]}), and cannot be compared with it"
            )


def without_new_digest(attributes: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes to hold against those of work begun `then`: an earlier version gave no digest."""
    return {name: value for name, value in attributes.items() if name != ATTRIBUTE or name in then}
