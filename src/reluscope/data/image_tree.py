"""A folder of images, one subfolder a class: what lies where.  Reads names only, no image; no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The file types that torchvision's ImageFolder takes."""

_TEST_FOLDERS = ("test", "val")
_LAYOUT = (
    "<path>/train/<class>/<image> with an optional <path>/test/<class>/<image>, <path>/<class>/<image>, or, without "
    "labels, <path>/<image>"
)


@dataclass(frozen=True)
class ImageTree:
    """The files of an image folder.

    Attributes:
        class_names: the class folders, sorted; a label is an index into them. Empty where the images lie in `path`
            itself and so have no labels, which are all 0 then.
        train, test: (file, label) of every image, by class, then by folder and by name; `test` is None where there is
            no folder.
    """

    class_names: tuple[str, ...]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]] | None


def scan_tree(path: Path) -> ImageTree:
    """List `<path>/train/<class>/*` and `<path>/test/<class>/*` (or val), else `<path>/<class>/*` without a test set,
    else `<path>/*` without labels.

    A class has the images of its folder and of all folders in it, in the order of torchvision's ImageFolder.

    Raises:
        FileNotFoundError: `path` is no folder.
        ValueError: no class folders, a class without images, a single class, test classes other than train's, or a
            folder that contains itself by a link.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"data.path: no folder {str(path)!r}; expected {_LAYOUT}")
    split = bool(_class_names(path / "train"))
    root = path / "train" if split else path
    class_names = _class_names(root)
    if not class_names and (names := _image_names(path)):
        return ImageTree((), [(path / name, 0) for name in names], None)
    if set(class_names) <= {"train", *_TEST_FOLDERS}:  # also where there are none at all
        raise ValueError(f"data.path: no class folders in {str(path)!r}; expected {_LAYOUT}")
    train = _list_images(root, class_names)
    if len(class_names) == 1:
        raise ValueError(
            f"data.path: {str(root)!r} holds the single class {class_names[0]!r}; expected two or more, or, "
            "without labels, the folder of the images themselves"
        )
    test_root = next((path / name for name in _TEST_FOLDERS if split and (path / name).is_dir()), None)
    if test_root is None:
        return ImageTree(class_names, train, None)
    if differing := sorted(set(class_names) ^ set(_class_names(test_root))):
        raise ValueError(
            f"data.path: expected the same classes in {str(root)!r} and {test_root.name!r} "
            f"but {differing[0]!r} is in one only"
        )
    return ImageTree(class_names, train, _list_images(test_root, class_names))


def _class_names(root: Path) -> tuple[str, ...]:
    """The names of the folders in `root`, sorted; hidden ones are skipped."""
    if not root.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(".") and entry.is_dir()))


def _list_images(root: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    images = []
    for label, class_name in enumerate(class_names):
        files = [file for file in _files_below(root / class_name) if _is_image(file)]
        if not files:
            suffixes = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(f"data.path: no images in {str(root / class_name)!r}; expected files ending in {suffixes}")
        images += [(file, label) for file in files]
    return images


def findings(path: Path, tree: ImageTree) -> list[str]:
    """What is worth telling of the files below `path`, a line each: images in folders of class folders, files left out.

    Hidden files are not told. `tree`: what `scan_tree` found there.
    """
    taken = dict([*tree.train, *(tree.test or [])])
    lines = []
    if nested := [f for f in taken if tree.class_names and f.parent.name != tree.class_names[taken[f]]]:
        lines.append(
            f"{len(nested):,} images lie in folders inside the class folders, such as {str(nested[0])!r}, and belong "
            "to the class, as in torchvision's ImageFolder"
        )
    others = [file for file in _files_below(path) if file not in taken]
    if outside := [file for file in others if _is_image(file)]:
        lines.append(f"{len(outside):,} images outside of the class folders are left out, such as {str(outside[0])!r}")
    if suffixes := Counter(file.suffix.lower() or "no suffix" for file in others if not _is_image(file)):
        most = ", ".join(f"{number:,} with {suffix}" for suffix, number in suffixes.most_common(3))
        lines.append(f"{suffixes.total():,} files that are no images by their names are left out: {most}")
    return lines


def _files_below(folder: Path) -> list[Path]:
    """Files in a folder and in all folders in it, by folder and then by name; hidden ones are skipped."""
    found: dict[str, list[str]] = {}
    _list_below(folder, (), found)
    return [Path(root, name) for root in sorted(found) for name in sorted(found[root])]


def _list_below(folder: Path, above: tuple[Path, ...], found: dict[str, list[str]]) -> None:
    above = (*above, folder.resolve())
    if above[-1] in above[:-1]:
        raise ValueError(f"data.path: {str(folder)!r} is a link to a folder that it lies in")
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    found[str(folder)] = [entry.name for entry in entries if not entry.is_dir()]
    for entry in entries:
        if entry.is_dir():
            _list_below(Path(entry.path), above, found)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def _image_names(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted; hidden ones are skipped."""
    return sorted(entry.name for entry in folder.iterdir() if _is_image(entry) and not entry.name.startswith("."))
