"""Data of one's own: arrays on disk, and data sets by import path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reluscope.data.array_files import StoredArray, open_arrays, require_classes
from reluscope.data.imported import ImportedData
from reluscope.data.item_format import ItemFormat
from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec, open_imported


def arrays_source(spec: DataSpec) -> Source:
    """The arrays at `spec.path` (see `array_files.open_arrays`), in the order in which they are stored.

    Classes are called by their numbers.
    """
    data = open_arrays(spec.folder)

    def split(images: StoredArray, labels: StoredArray | None, name: str) -> Split:
        what = f"data.path: {name} in {spec.path!r}"
        item_format = ItemFormat.of(images.shape[1:], images.dtype, spec.layout, what)
        return Split(
            images.shape[0],
            None
            if labels is None
            else _taken(labels, np.arange(labels.shape[0]), f"labels of {what}").astype(np.int64),
            lambda indices: item_format.convert(_taken(images, indices, what), indices, what),
        )

    train = split(data.images, data.labels, "images")
    test = None if data.test_images is None else split(data.test_images, data.test_labels, "test_images")
    return _source("data.path", train, test, None, in_parts=data.in_parts, unusable=data.unusable)


def _taken(array: StoredArray, indices: NDArray[np.int64], what: str) -> NDArray:
    """Some of an array's items.

    Raises:
        ValueError: what is stored cannot be read.
    """
    try:
        return array.take(indices)
    except MemoryError:
        raise
    except Exception as error:  # damaged archives and chunks raise many kinds
        raise ValueError(f"{what}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def imported_source(spec: DataSpec) -> Source:
    """The data set at `spec.import_path`, in its own order.

    Classes are called as its attribute `classes` says, where it names them all; else by their numbers.
    """
    data = open_imported(spec)
    (train, unusable), test = _split(data), None
    if spec.test_arguments is not None:
        test_data = open_imported(spec, test=True)
        if test_data.format != data.format:
            raise ValueError(
                f"data.test_arguments: expected items as those for training, {data.format.dtype} "
                f"{list(data.format.shape)}, but got {test_data.format.dtype} {list(test_data.format.shape)}"
            )
        test, unusable_test = _split(test_data)
        if test_data.labelled != data.labelled:
            unusable_test = "data.test_arguments: expected items with labels, or without, as those for training are"
        unusable = unusable or unusable_test
    names = getattr(data.dataset, "classes", None)
    return _source("data.import", train, test, names, unusable=unusable)


def _split(data: ImportedData) -> tuple[Split, str | None]:
    """The data set, and why its labels cannot be used, if it has some."""
    data.require_same_twice()
    try:
        return Split(len(data), data.labels(), data.read), None
    except ValueError as error:
        return Split(len(data), None, data.read), str(error)


def _source(
    key: str, train: Split, test: Split | None, names: object, *, in_parts: bool = True, unusable: str | None = None
) -> Source:
    """With labels if all can be used; who needs them is told why, where there are none."""
    class_names: tuple[str, ...] = ()
    try:
        class_names = _class_names(key, train, test, names)
    except ValueError as error:
        unusable = unusable or str(error)
    if unusable is not None:
        class_names, train = (), replace(train, labels=None)
        test = None if test is None else replace(test, labels=None)
    return Source(class_names, train, test, in_parts=in_parts, unusable=unusable)


def _class_names(key: str, train: Split, test: Split | None, given: object) -> tuple[str, ...]:
    """The names of the classes 0, 1, ... up to the largest label; none without labels."""
    labels = [split.labels for split in (train, test) if split is not None and split.labels is not None]
    if not labels:
        return ()
    require_classes(key, labels)
    num_classes = max(int(each.max()) for each in labels) + 1
    names = [str(name) for name in given] if isinstance(given, list | tuple) else []
    return tuple(names) if len(names) >= num_classes else tuple(str(label) for label in range(num_classes))
