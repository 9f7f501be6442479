"""Data sets by import path: any object with len() whose items are got by their number, as torch's map-style Datasets.

This module needs no torch; the data set that it imports mostly does.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reluscope.data.item_format import ItemFormat
from reluscope.imports import call, in_one_line

_COMPARED_ITEMS = 8


@dataclass(frozen=True, eq=False)
class ImportedData:
    """A data set that a config named by an import path.

    Attributes:
        what: its import path, for an error's words.
        dataset: the object itself.
        format: of its first item, which all others must share.
        labelled: whether an item comes with a class, a whole number.
    """

    what: str
    dataset: Any
    format: ItemFormat
    labelled: bool

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, indices: NDArray[np.int64]) -> NDArray:
        """The items of given indices, int64 [k], as `ItemFormat.convert` makes them.

        Raises:
            ValueError: an item cannot be read, or is unlike the first one.
        """
        items = []
        for index in indices.tolist():
            item, _, _ = _item(self.what, self.dataset, index)
            if item.shape != self.format.shape or ItemFormat.kind_of(item.dtype) != self.format.dtype:
                raise ValueError(
                    f"{self.what}: expected items of one shape and type, but item {index} is {item.dtype} "
                    f"{list(item.shape)} where item 0 is {self.format.dtype} {list(self.format.shape)}; give the data "
                    "set a transform that makes them alike"
                )
            items.append(item)
        return self.format.convert(np.stack(items), indices, self.what)

    def labels(self) -> NDArray[np.int64] | None:
        """The class of every item, int64 [n]; None where the first has none.

        `dataset.targets` where these are the labels, as of torchvision's; else every item is read for it.

        Raises:
            ValueError: an item has none where the first has one.
        """
        if not self.labelled:
            return None
        if (targets := self._targets()) is not None:
            return targets
        progress = tqdm(range(len(self)), desc="Reading labels", unit="item", disable=None, leave=False)
        return np.array([self._label(index) for index in progress], dtype=np.int64)

    def _targets(self) -> NDArray[np.int64] | None:
        """`dataset.targets`, where there are some and the first item of each has it as its label; None elsewhere."""
        try:
            targets = np.asarray(getattr(self.dataset, "targets", None))
        except ValueError:  # lists of several lengths
            return None
        if targets.shape != (len(self),) or targets.dtype.kind not in "iu":
            return None
        _, first = np.unique(targets, return_index=True)
        is_label = all(self._label(index) == targets[index] for index in first.tolist())
        return targets.astype(np.int64) if is_label else None

    def digest(self) -> str:
        """Tells contents apart without reading all: length, and the first, middle and last item with their labels."""
        n = len(self)
        digest = hashlib.sha256(f"{n}".encode())
        for index in (0, n // 2, n - 1):
            item, label, _ = _item(self.what, self.dataset, index)
            digest.update(f"{label} {item.dtype} {item.shape}".encode() + item.tobytes())
        return digest.hexdigest()[:16]

    def require_same_twice(self) -> None:
        """Refuse a data set that draws its items anew.

        Raises:
            ValueError: one of the first eight items is another one when it is read again.
        """
        for index in range(min(len(self), _COMPARED_ITEMS)):
            (item, label, _), (again, label_again, _) = (_item(self.what, self.dataset, index) for _ in range(2))
            if label != label_again or not np.array_equal(item, again):
                raise ValueError(
                    f"{self.what}: expected the same item whenever it is read, but item {index} changes; leave random "
                    "transforms to data.augmentation"
                )

    def _label(self, index: int) -> int:
        _, label, _ = _item(self.what, self.dataset, index)
        if label is None:
            raise ValueError(
                f"{self.what}: expected (x, label) with a whole number, as item 0 is, but item {index} has none"
            )
        return label


def open_dataset(path: str, arguments: Mapping[str, Any], layout: str | None) -> ImportedData:
    """Import and make a data set, and read its first item.

    Args:
        path: ``package.module:name`` of a function or a class.
        arguments: what it is called with.
        layout: as `ItemFormat.of` takes it; a picture's own is known.

    Raises:
        ValueError: it cannot be imported or made, has no length or items, or its items cannot be used.
    """
    what = f"data.import {path}"
    try:
        dataset = call(path, dict(arguments))
    except ValueError as error:
        raise ValueError(f"data.{error}") from error
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"{what}: expected a data set with len() whose items are got by their number, but got "
            f"{type(dataset).__name__}"
        )
    try:
        size = len(dataset)
    except Exception as error:  # a stranger's code may raise anything
        raise ValueError(f"{what}: its len() raised {in_one_line(error)}") from error
    if size == 0:
        raise ValueError(f"{what}: expected at least one item, but the data set is empty")
    item, label, is_picture = _item(what, dataset, 0)
    item_format = ItemFormat.of(item.shape, item.dtype, "channels_last" if is_picture else layout, f"{what}: item 0")
    return ImportedData(what, dataset, item_format, label is not None)


def _item(what: str, dataset: Any, index: int) -> tuple[NDArray, int | None, bool]:
    """An item as stored, its label if it has one that is a whole number, and whether it was a picture."""
    from PIL import Image

    from reluscope.data.decoding import pixels_of

    try:
        item = dataset[index]
        label = None
        if isinstance(item, tuple | list) and item:
            item, label = item[0], _whole_number(item[1]) if len(item) > 1 else None
        if isinstance(item, Image.Image):
            return pixels_of(item), label, True
        if hasattr(item, "detach"):  # a tensor
            item = item.detach().cpu().numpy()
    except Exception as error:  # a stranger's code may raise anything
        raise ValueError(f"{what}: item {index} cannot be read: {in_one_line(error)}") from error
    if not isinstance(item, np.ndarray):
        raise ValueError(
            f"{what}: expected items that are a tensor, an array or a picture, or (x, label) of these, but item "
            f"{index} is of type {type(item).__name__}"
        )
    return item, label, False


def _whole_number(label: object) -> int | None:
    try:
        return operator.index(label)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
