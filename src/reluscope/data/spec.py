"""The `data` section of a study's config, checked without loading an image and without torch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reluscope.data.image_tree import scan_tree
from reluscope.hints import did_you_mean, require_known

DATASETS = ("digits", "cifar10", "cifar100", "imagefolder")

TRAIN_IMAGES = {"digits": 1_500, "cifar10": 50_000, "cifar100": 50_000}
"""Training images of each data set that has a fixed size."""

IMAGE_SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
"""(channels, height, width) of each data set that has a fixed one."""

_KEYS = ("name", "path", "images", "test_images", "augmentation")
_AUGMENTATION_KEYS = ("flip", "crop_padding")


@dataclass(frozen=True)
class DataSpec:
    """Which images a run trains on, and how they are augmented.

    Attributes:
        name: one of `DATASETS`.
        path: the folder that holds the data; None for the digits, which come with scikit-learn.
        images: training images to use, a fixed class-balanced subset; None for all.
        test_images: the same of the test images.
        flip: whether a training image is mirrored left to right with probability 1/2.
        crop_padding: black pixels added on each side before a random crop at the original size; 0 for no crop.
    """

    name: str
    path: str | None
    images: int | None
    test_images: int | None
    flip: bool
    crop_padding: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DataSpec:
        """The `data` section with its defaults filled in; keys that are absent or None take their default.

        Digits are neither flipped nor moved by more than one pixel (`crop_padding` 1); photographs are flipped and
        take the paper's `crop_padding` of 4. The path is "data" for the CIFAR sets.

        Raises:
            ValueError: for an unknown key or a value that is not allowed, named by its key path ("data.images").
        """
        section = _section("data", config, _KEYS)
        name: Any = section.get("name")
        require_known("data.name", name, DATASETS)
        augmentation = _section("data.augmentation", section.get("augmentation", {}), _AUGMENTATION_KEYS)
        flip = augmentation.get("flip", name != "digits")
        if not isinstance(flip, bool):
            raise ValueError(f"data.augmentation.flip: expected true or false but got {flip!r}")
        return cls(
            name=name,
            path=_path(name, section.get("path")),
            images=_integer("data.images", section["images"], 1) if "images" in section else None,
            test_images=_integer("data.test_images", section["test_images"], 1) if "test_images" in section else None,
            flip=flip,
            crop_padding=_integer(
                "data.augmentation.crop_padding", augmentation.get("crop_padding", 1 if name == "digits" else 4), 0
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Every key of the `data` section, JSON-able; `from_config` makes the same spec of it."""
        return {
            "name": self.name,
            "path": self.path,
            "images": self.images,
            "test_images": self.test_images,
            "augmentation": {"flip": self.flip, "crop_padding": self.crop_padding},
        }

    @property
    def folder(self) -> Path:
        """`path` with a leading ~ expanded.  Raises ValueError for data that have no path."""
        if self.path is None:
            raise ValueError(f"data.path: {self.name} has none")
        return Path(self.path).expanduser()


@functools.cache  # studies ask for each of their runs
def fingerprint(spec: DataSpec) -> str | None:
    """What tells one content of an image folder from another: a digest of all names and sizes. None for other data.

    Raises:
        FileNotFoundError, ValueError: as `num_train_images`.
    """
    if spec.name in TRAIN_IMAGES:
        return None
    tree = scan_tree(spec.folder)
    files = [file for file, _ in [*tree.train, *(tree.test or [])]]
    listing = "\n".join(f"{file.relative_to(spec.folder)} {file.stat().st_size}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


@functools.cache  # studies ask for each of their runs
def num_train_images(spec: DataSpec) -> int:
    """Training images that a run with `spec` uses; an image folder is counted, not read.

    Raises:
        FileNotFoundError: the image folder is missing.
        ValueError: the image folder is not laid out as expected, or `images` asks for more than there are.
    """
    available = TRAIN_IMAGES[spec.name] if spec.name in TRAIN_IMAGES else len(scan_tree(spec.folder).train)
    return capped("data.images", spec.images, available)


def image_shape(spec: DataSpec) -> tuple[int, int, int]:
    """(channels, height, width) of the images; of a folder, those of its first image.

    Raises:
        FileNotFoundError, ValueError: as `num_train_images`.
    """
    if spec.name in IMAGE_SHAPES:
        return IMAGE_SHAPES[spec.name]
    from PIL import Image

    with Image.open(scan_tree(spec.folder).train[0][0]) as image:
        return (1 if image.mode in ("1", "L", "LA") else 3, image.height, image.width)


def capped(key: str, requested: int | None, available: int) -> int:
    """`requested` images, or all `available` ones for None.  Raises ValueError for more than there are."""
    if requested is not None and requested > available:
        raise ValueError(f"{key}: expected at most {available}, the images there are, but got {requested}")
    return available if requested is None else requested


def _section(key: str, section: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The given keys of a mapping, without those that are None; unknown keys are refused."""
    if not isinstance(section, Mapping):
        raise ValueError(f"{key}: expected a mapping with the keys {', '.join(allowed)} but got {section!r}")
    for name in section:
        if name not in allowed:
            raise ValueError(f"{key}: unknown key {name!r}{did_you_mean(name, allowed)}")
    return {name: value for name, value in section.items() if value is not None}


def _path(name: str, path: Any) -> str | None:
    if name == "digits":
        if path is not None:
            raise ValueError(f"data.path: expected none, the digits come with scikit-learn, but got {path!r}")
        return None
    if path is None and name != "imagefolder":
        return "data"
    if not isinstance(path, str) or not path:
        raise ValueError(f"data.path: expected the path of a folder of images for {name} but got {path!r}")
    return path


def _integer(key: str, value: Any, minimum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{key}: expected an integer of at least {minimum} but got {value!r}")
    return value
