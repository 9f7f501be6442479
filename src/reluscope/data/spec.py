"""The `data` section of a study's config, checked without loading an image and without torch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reluscope.data.array_files import content_digest, open_arrays, require_classes
from reluscope.data.image_tree import scan_tree
from reluscope.data.imported import ImportedData, open_dataset
from reluscope.data.item_format import LAYOUTS, ItemFormat
from reluscope.data.section import (
    arguments_of,
    boolean,
    import_path_of,
    integer,
    one_of,
    path_of,
    resize_of,
    section_of,
)
from reluscope.hints import require_known

DATASETS = ("digits", "cifar10", "cifar100", "imagefolder", "arrays", "import")

TRAIN_IMAGES = {"digits": 1_500, "cifar10": 50_000, "cifar100": 50_000}
"""Training images of each data set that has a fixed size."""

MOST_IMAGES = 2**31 - 1
"""No data set has more; its length is wrong then."""

IMAGE_SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
"""(channels, height, width) of each data set that has a fixed one."""

_KEYS = ("name", "images", "test_images", "augmentation")
_OWN_KEYS = {
    "digits": (),
    "cifar10": ("path",),
    "cifar100": ("path",),
    "imagefolder": ("path", "resize", "channels", "exif_orientation", "stream"),
    "arrays": ("path", "layout", "stream"),
    "import": ("import", "arguments", "test_arguments", "layout", "stream"),
}
_AUGMENTATION_KEYS = ("flip", "crop_padding")
_CROP_PADDING = {"digits": 1, "cifar10": 4, "cifar100": 4, "imagefolder": 4}
_FLIPPED = ("cifar10", "cifar100", "imagefolder")


@dataclass(frozen=True)
class DataSpec:
    """Which images a run trains on, and how they are augmented.

    Attributes:
        name: one of `DATASETS`.
        path: the file or folder that holds the data; None for the digits, which come with scikit-learn, and for data
            sets by import path.
        images: training images to use, a fixed seeded subset, class-balanced where there are labels; None for all.
        test_images: the same of the test images.
        flip: whether a training image is mirrored left to right with probability 1/2.
        crop_padding: black pixels (of floats: zeros) added on each side before a random crop at the original size; 0
            for no crop.
        resize: (height, width) of every image of a folder, whatever its size; None where all have one.
        channels: 1 reads every image of a folder as grey, 3 in colour; None where all are alike.
        exif_orientation: whether images of a folder are turned and mirrored as their EXIF data say.
        layout: where the channels of items with three axes are, one of `item_format.LAYOUTS`; None to tell it.
        stream: whether images are read from disk batch by batch; None: where they take more than 2 GiB. The counts are
            the same.
        import_path: ``package.module:name`` of what makes the data set.
        arguments: what it is called with for the training images.
        test_arguments: laid over these for the test images; None where there are none.
    """

    name: str
    path: str | None
    images: int | None
    test_images: int | None
    flip: bool
    crop_padding: int
    resize: tuple[int, int] | None = None
    channels: int | None = None
    exif_orientation: bool = False
    layout: str | None = None
    stream: bool | None = None
    import_path: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    test_arguments: Mapping[str, Any] | None = field(default=None, hash=False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DataSpec:
        """The `data` section with its defaults filled in; keys that are absent or None take their default.

        Digits are neither flipped nor moved by more than one pixel (`crop_padding` 1); photographs are flipped and
        take the paper's `crop_padding` of 4; arrays and imported data sets, which may hold anything, are left as they
        are. The path is "data" for the CIFAR sets. `import` alone implies its name.

        Raises:
            ValueError: for an unknown key or a value that is not allowed, named by its key path ("data.images").
        """
        section = section_of(
            "data", config, tuple(dict.fromkeys([*_KEYS, *(k for own in _OWN_KEYS.values() for k in own)]))
        )
        name: Any = section.get("name", "import" if "import" in section else None)
        require_known("data.name", name, DATASETS)
        for key, value in section.items():
            if key not in (*_KEYS, *_OWN_KEYS[name]):
                takes = [other for other, own in _OWN_KEYS.items() if key in own]
                raise ValueError(
                    f"data.{key}: expected none, it goes with {', '.join(takes)}, not {name}, but got {value!r}"
                )
        augmentation = section_of("data.augmentation", section.get("augmentation", {}), _AUGMENTATION_KEYS)
        padding = augmentation.get("crop_padding", _CROP_PADDING.get(name, 0))
        spec = cls(
            name=name,
            path=path_of(name, section.get("path")),
            images=integer("data.images", section["images"], 1) if "images" in section else None,
            test_images=integer("data.test_images", section["test_images"], 1) if "test_images" in section else None,
            flip=boolean("data.augmentation.flip", augmentation.get("flip", name in _FLIPPED)),
            crop_padding=integer("data.augmentation.crop_padding", padding, 0),
            resize=resize_of(section.get("resize")),
            channels=one_of("data.channels", section.get("channels"), (1, 3)),
            exif_orientation=boolean("data.exif_orientation", section.get("exif_orientation", False)),
            layout=one_of("data.layout", section.get("layout"), LAYOUTS),
            stream=boolean("data.stream", section["stream"]) if "stream" in section else None,
            import_path=import_path_of(section.get("import")) if name == "import" else None,
            arguments=arguments_of("data.arguments", section.get("arguments", {})),
            test_arguments=arguments_of("data.test_arguments", section["test_arguments"])
            if "test_arguments" in section
            else None,
        )
        if spec.stream and name == "arrays" and str(spec.path).endswith(".npz"):
            raise ValueError(
                f"data.stream: expected false, parts of the .npz {spec.path!r} cannot be read without the rest, but "
                "got true; save a folder of .npy files, or Zarr"
            )
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Every key of the `data` section, JSON-able; `from_config` makes the same spec of it.

        Keys that not all data sets take are there only where they are given; `stream` never is, because it changes
        nothing but memory and time.
        """
        where: dict[str, Any] = {"path": self.path}
        if self.name == "import":
            where = {"import": self.import_path, "arguments": dict(self.arguments)}
        optional = {
            "test_arguments": None if self.test_arguments is None else dict(self.test_arguments),
            "resize": None if self.resize is None else list(self.resize),
            "channels": self.channels,
            "exif_orientation": self.exif_orientation or None,
            "layout": self.layout,
        }
        return {
            "name": self.name,
            **where,
            "images": self.images,
            "test_images": self.test_images,
            "augmentation": {"flip": self.flip, "crop_padding": self.crop_padding},
            **{key: value for key, value in optional.items() if value is not None},
        }

    @property
    def described(self) -> str:
        """The data in a few words, for messages."""
        return self.import_path or (repr(self.path) if self.path else self.name)

    @property
    def folder(self) -> Path:
        """`path`, of a file or folder, with a leading ~ expanded.  Raises ValueError for data that have no path."""
        if self.path is None:
            raise ValueError(f"data.path: {self.name} has none")
        return Path(self.path).expanduser()


@functools.cache  # studies ask for each of their runs
def fingerprint(spec: DataSpec) -> str | None:
    """What tells one content of the data from another; None for data sets that are always the same.

    Of an image folder, a digest of all names and sizes; of arrays, that and 64 MiB of their content
    (`array_files.content_digest`); of an imported data set, its length and three of its items (`ImportedData.digest`).
    So a change within the rest, of the same size, is not noticed.

    Raises:
        FileNotFoundError, ValueError: as `num_train_images`.
    """
    if spec.name in TRAIN_IMAGES:
        return None
    if spec.name == "arrays":
        return content_digest(spec.folder)
    if spec.name == "import":
        parts = [
            _imported(spec).digest,
            *([_imported(spec, test=True).digest] if spec.test_arguments is not None else []),
        ]
        return "-".join(parts)
    tree = scan_tree(spec.folder)
    files = [file for file, _ in [*tree.train, *(tree.test or [])]]
    listing = "\n".join(f"{file.relative_to(spec.folder)} {file.stat().st_size}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


@functools.cache  # studies ask for each of their runs
def num_train_images(spec: DataSpec) -> int:
    """Training images that a run with `spec` uses.

    Image folders are counted, not read, and of arrays the headers are read. An imported data set is made, which takes
    as long as it takes.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: they are not laid out as expected, or `images` asks for more than there are.
    """
    match spec.name:
        case "imagefolder":
            available = len(scan_tree(spec.folder).train)
        case "arrays":
            available = open_arrays(spec.folder).images.shape[0]
        case "import":
            available = _imported(spec).size
        case _:
            available = TRAIN_IMAGES[spec.name]
    return capped("data.images", spec.images, available)


@functools.cache  # studies ask for each of their runs
def image_shape(spec: DataSpec) -> tuple[int, ...]:
    """Shape of an item as a network gets it: (channels, height, width) of an image; of a folder, those of its first.

    Raises:
        FileNotFoundError, ValueError: as `num_train_images`; or the items cannot be used.
    """
    if spec.name in IMAGE_SHAPES:
        return IMAGE_SHAPES[spec.name]
    if spec.name == "imagefolder":
        from PIL import Image

        from reluscope.data.decoding import is_sideways, num_channels

        if spec.channels and spec.resize:
            return (spec.channels, *spec.resize)
        file = scan_tree(spec.folder).train[0][0]
        try:
            image = Image.open(file)
        except Exception as error:  # the decoders raise many kinds on a damaged header, or one of 10^9 pixels
            raise ValueError(f"data.path: cannot read the image {str(file)!r}: {error}") from error
        with image:
            size = (image.width, image.height) if spec.exif_orientation and is_sideways(image) else image.size[::-1]
            return (spec.channels or num_channels(image), *(spec.resize or size))
    return _item_format(spec).network_shape


def holds_integers(spec: DataSpec) -> bool:
    """Whether a network gets whole numbers, such as token ids, and not floats."""
    return spec.name in ("arrays", "import") and _item_format(spec).dtype == np.int64


def require_images(spec: DataSpec) -> None:
    """Refuse data that a network of this package cannot take.

    Raises:
        ValueError: items are no images [channels, height, width] of uint8 or floats.
    """
    if spec.name in ("arrays", "import"):
        found = _item_format(spec)
        if len(found.network_shape) != 3 or holds_integers(spec):
            raise ValueError(
                f"data: expected images [channels, height, width] of uint8 or floats, but {spec.described} holds "
                f"{found.dtype} {list(found.network_shape)}, which take a network of your own"
            )


def require_labels(spec: DataSpec, purpose: str = "to train on") -> None:
    """Refuse data without labels, which can be counted as a whole, but neither trained on nor counted per class.

    Raises:
        ValueError: there are none.
    """
    match spec.name:
        case "imagefolder":
            labelled, where = bool(scan_tree(spec.folder).class_names), "one folder of images for each class"
        case "arrays":
            arrays = open_arrays(spec.folder)
            if arrays.unusable is not None:
                raise ValueError(arrays.unusable)
            if arrays.labels is not None:
                require_classes("data.path", [arrays.labels.take(np.arange(arrays.labels.shape[0]))])
            labelled, where = arrays.labels is not None, "an array of labels beside the images"
        case "import":
            labelled, where = _imported(spec).labelled, "items (x, label) with a whole number as label"
        case _:
            return
    if not labelled:
        raise ValueError(f"data: expected labels {purpose}, {where}, but {spec.described} has none")


def open_imported(spec: DataSpec, test: bool = False) -> ImportedData:
    """The data set that `spec` imports, with its training or its test arguments.

    Raises:
        ValueError: as `imported.open_dataset`.
    """
    assert spec.import_path is not None
    arguments = {**spec.arguments, **((spec.test_arguments or {}) if test else {})}
    return open_dataset(spec.import_path, arguments, spec.layout)


@dataclass(frozen=True)
class _Imported:
    """What is known of an imported data set once it was made; it itself is not kept."""

    size: int
    format: ItemFormat
    labelled: bool
    digest: str


@functools.cache
def _imported(spec: DataSpec, test: bool = False) -> _Imported:
    data = open_imported(spec, test)
    return _Imported(len(data), data.format, data.labelled, data.digest())


def num_test_images_imported(spec: DataSpec) -> int | None:
    """Test images of an imported data set; None where there are none."""
    return None if spec.test_arguments is None else _imported(spec, test=True).size


def _item_format(spec: DataSpec) -> ItemFormat:
    if spec.name == "import":
        return _imported(spec).format
    images = open_arrays(spec.folder).images
    return ItemFormat.of(images.shape[1:], images.dtype, spec.layout, f"data.path: images in {spec.path!r}")


def capped(key: str, requested: int | None, available: int) -> int:
    """`requested` images, or all `available` ones for None.  Raises ValueError for more than there are."""
    if available > MOST_IMAGES:
        raise ValueError(f"data: expected at most {MOST_IMAGES:,} images, but there are said to be {available:,}")
    if requested is not None and requested > available:
        raise ValueError(f"{key}: expected at most {available}, the images there are, but got {requested}")
    return available if requested is None else requested
