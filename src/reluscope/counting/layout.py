"""The pre-activation of any layer as the engines take it, and its positions in one image."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from reluscope.preactivations import Site


@dataclass(frozen=True)
class Layout:
    """A layer's positions in one image, in how many rows of the axis of images: one, or several folded into it."""

    height: int
    width: int
    rows: int = 1


UNKNOWN = Layout(0, 0)
"""Where positions do not lie image by image, or images have other numbers of them."""


@functools.lru_cache(maxsize=4096)  # of each layer, the same in nearly every batch
def layouts(shape: torch.Size, channel_axis: int, num_images: int) -> Mapping[int, Layout]:
    """The axes that may be that of the images, and the layout if it is.

    Images stand on the first axis, several rows each where windows of an image, or frames, were folded into it; or on
    the second of a sequence [tokens, n, features]. There may be no such axis, or two. Where an image has several rows,
    these may also be the first of all images, then the second of all, as two views that were put together: `~axis`.

    Height and width are 1 for plain features; the tokens of a sequence are the height. Rows of an image that are folded
    into the axis of images come first. Of more than two axes of positions the last is the width.
    """
    first = 0 if channel_axis != 0 else 1
    axes = [first] if first < len(shape) and shape[first] >= num_images and shape[first] % num_images == 0 else []
    if _is_sequence(shape, channel_axis) and shape[1] == num_images:
        axes.append(1)
    found = {axis: _layout(shape, channel_axis, num_images, axis) for axis in axes}
    return MappingProxyType(found | {~axis: layout for axis, layout in found.items() if layout.rows > 1})


def image_by_image(values: Tensor, axis: int, num_images: int) -> Tensor:
    """The same with all rows of an image next to each other on `axis`, one of `layouts`."""
    if axis >= 0:
        return values
    return values.unflatten(~axis, (-1, num_images)).transpose(~axis, ~axis + 1).flatten(~axis, ~axis + 1)


def _layout(shape: torch.Size, channel_axis: int, num_images: int, image_axis: int) -> Layout:
    positions = [size for axis, size in enumerate(shape) if axis not in (channel_axis, image_axis)]
    if (rows_an_image := shape[image_axis] // num_images) > 1:
        positions.insert(0, rows_an_image)
    *rows, width = positions if len(positions) > 1 else [*positions, 1]
    return Layout(math.prod(rows), width, rows_an_image)


def for_engine(site: Site, preactivation: Tensor, image_axis: int) -> Tensor:
    """[n, channels, height, width] or [positions, channels], > 0 where the bit is 1; a view wherever possible.

    The positions of an image follow each other.

    Above another threshold than 0 the comparison itself is handed over, as uint8, because a difference is rounded; what
    is NaN can then not be told any more.
    """
    values = preactivation if site.threshold == 0 else (preactivation > site.threshold).view(torch.uint8)
    if image_axis == 1 and site.channel_axis == 2:
        values = values.movedim(1, 0)
    if site.channel_axis == 1 and values.ndim in (2, 4):
        return values
    if site.channel_axis == 1:
        return values.flatten(2).unsqueeze(-1)
    return values.movedim(site.channel_axis, -1).flatten(0, -2)


def _is_sequence(shape: torch.Size, channel_axis: int) -> bool:
    return len(shape) == 3 and channel_axis == 2
