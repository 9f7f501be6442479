"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), downloaded by torchvision where the folder lacks them."""

from __future__ import annotations

import http.client
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec

CIFAR10_MEAN = (0.49139969, 0.48215842, 0.44653092)
CIFAR10_STD = (0.24703318, 0.24348606, 0.26158884)
"""The paper's normalisation (the published settings of Hartmann et al. 2021): all 50,000 training images'."""

_DOWNLOAD_ERRORS = (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException)


def cifar10_source(spec: DataSpec) -> Source:
    """CIFAR-10 in its published order, normalised with the paper's constants whatever is selected from it."""
    return _source(spec, "CIFAR10", (CIFAR10_MEAN, CIFAR10_STD))


def cifar100_source(spec: DataSpec) -> Source:
    """CIFAR-100 with its 100 fine classes, in its published order."""
    return _source(spec, "CIFAR100", None)


def _source(spec: DataSpec, class_name: str, statistics: tuple[tuple[float, ...], tuple[float, ...]] | None) -> Source:
    # here, because it takes a second that no other data need wait
    from reluscope.guarded_torchvision import torchvision

    train, test = _open(getattr(torchvision.datasets, class_name), spec.folder)
    return Source(tuple(train.classes), _split(train), _split(test), statistics)


def _open(dataset: Any, folder: Path) -> tuple[Any, Any]:
    """The (train, test) data sets of a torchvision class, downloaded into `folder` where they are not whole."""
    try:
        return dataset(folder, train=True), dataset(folder, train=False)
    except RuntimeError:  # a file is missing, or its checksum is wrong
        pass
    try:
        with FileLock(folder / f".{dataset.base_folder}.lock"):  # jobs that start together download once
            return dataset(folder, train=True, download=True), dataset(folder, train=False)
    except _DOWNLOAD_ERRORS as error:
        raise FileNotFoundError(
            f"data.path: expected {dataset.base_folder} in {str(folder)!r}, but it is missing or damaged and the "
            f"download failed ({error}); put {dataset.url} there, or name the folder that holds it"
        ) from error


def _split(dataset: Any) -> Split:
    return Split(len(dataset), np.asarray(dataset.targets, dtype=np.int64), dataset.data.__getitem__)
