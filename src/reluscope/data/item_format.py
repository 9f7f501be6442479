"""What one item of a data set is: how it lies in an array, and how a network gets it.  No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

LAYOUTS = ("channels_first", "channels_last")

_CHANNELS = (1, 3)  # grey; red, green, blue


@dataclass(frozen=True)
class ItemFormat:
    """One item as stored.

    uint8 items are images, [h, w] (grey), [h, w, c] or [c, h, w]; they are normalised later. Floats become float32, and
    other integers int64 (token ids); both are else taken as they are, in any shape.

    Attributes:
        shape: of an item as stored.
        dtype: as a network's input holds it: uint8 (before it is normalised), float32 or int64.
        channels_last: whether the last of three axes holds the channels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    channels_last: bool

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: DTypeLike, layout: str | None, what: str) -> ItemFormat:
        """The format of stored items.

        Args:
            shape, dtype: of an item as stored.
            layout: one of `LAYOUTS`, where the config gives it; else the channels of a uint8 image are the one outer
                axis of 1 or 3, and everything else is taken as it lies.
            what: what holds the items, for an error's words.

        Raises:
            ValueError: another dtype or shape, or a layout that cannot be told.
        """
        given = f"{what} holds {np.dtype(dtype)} {list(shape)}"
        target = cls.kind_of(dtype)
        if target is None or not shape or 0 in shape:
            raise ValueError(f"{what}: expected items of uint8 (images), floats or integers, but {given}")
        if layout is not None and len(shape) != 3:
            raise ValueError(f"data.layout: expected none, it is for items with three axes, but {given}")
        if target != np.uint8:
            return cls(shape, target, layout == "channels_last")
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{what}: expected uint8 images [height, width], [height, width, channels] or [channels, height, "
                f"width] (other data as floats, or as int64), but {given}"
            )
        if layout is None and len(shape) == 3:
            first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
            if first == last:
                raise ValueError(f"data.layout: expected {' or '.join(LAYOUTS)}, which cannot be told, as {given}")
            layout = LAYOUTS[last]
        return cls(shape, target, layout == "channels_last")

    @staticmethod
    def kind_of(dtype: DTypeLike) -> np.dtype | None:
        """uint8, float32 or int64, as which stored items of `dtype` are given to a network; None for other dtypes."""
        if dtype == np.uint8:
            return np.dtype(np.uint8)
        kinds: dict[str, np.dtype] = {"f": np.dtype(np.float32), "i": np.dtype(np.int64), "u": np.dtype(np.int64)}
        return kinds.get(np.dtype(dtype).kind)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of an item as a network gets it: [channels, height, width] for an image."""
        if self.dtype == np.uint8 and len(self.shape) == 2:
            return (1, *self.shape)
        return (self.shape[2], *self.shape[:2]) if self.channels_last else self.shape

    def convert(self, items: NDArray, indices: NDArray[np.int64], what: str) -> NDArray:
        """Stored items [k, ...] as uint8 [k, h, w, c], or as float32 or int64 [k, *network_shape].

        Args:
            indices: of the items in their data set, int64 [k], for an error's words.
            what: what holds them, likewise.

        Raises:
            ValueError: a float is not finite.
        """
        if self.dtype == np.uint8:
            if len(self.shape) == 2:
                return np.ascontiguousarray(items)[..., None]
            return np.ascontiguousarray(items if self.channels_last else np.moveaxis(items, 1, 3))
        items = np.ascontiguousarray(np.moveaxis(items, 3, 1) if self.channels_last else items, dtype=self.dtype)
        if self.dtype == np.float32 and not np.isfinite(items).all():
            bad = indices[~np.isfinite(items.reshape(len(items), -1)).all(axis=1)][0]
            raise ValueError(f"{what}: expected finite float32 numbers, but item {bad} holds NaN or infinity")
        return items
