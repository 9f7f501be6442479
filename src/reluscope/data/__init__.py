"""The data room: which images a run sees, in which order, and how a training batch is augmented.

`spec` knows the data without torch and without reading them, from names of files and headers of arrays, so that a
study is checked before its first job starts; only a data set by import path must be made for that (`imported`). The
names that need torch are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reluscope.data.spec import DATASETS, DataSpec, num_train_images

if TYPE_CHECKING:
    from reluscope.data.augmentation import augment as augment
    from reluscope.data.images import Dataset as Dataset
    from reluscope.data.images import ImageSet as ImageSet
    from reluscope.data.loading import load as load

_HOME = {
    "Dataset": "reluscope.data.images",
    "ImageSet": "reluscope.data.images",
    "augment": "reluscope.data.augmentation",
    "load": "reluscope.data.loading",
}

__all__ = ["DATASETS", "DataSpec", "Dataset", "ImageSet", "augment", "load", "num_train_images"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reluscope.data' has no attribute {name!r}")
