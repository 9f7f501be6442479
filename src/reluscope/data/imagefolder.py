"""Any folder of images, one subfolder a class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from reluscope.data.image_tree import scan_tree
from reluscope.data.selection import fixed_order
from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec

_TARGET_MODE = dict.fromkeys(("1", "L", "LA"), "L") | dict.fromkeys(
    ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"
)
_BLOCK = 128  # files a thread decodes at a time; fewer cost more hand-overs than they balance


def imagefolder_source(spec: DataSpec) -> Source:
    """The tree in `spec.path` (see `image_tree.scan_tree`), each split in one fixed shuffled order.

    All images must have one size, and be all grey (8 bit) or all colour; transparency is dropped. The first selected
    training image sets the example.
    """
    tree = scan_tree(spec.folder)
    reader = _Reader()
    test = None if tree.test is None else _split(tree.test, reader)
    return Source(tree.class_names, _split(tree.train, reader), test)


def _split(files: Sequence[tuple[Path, int]], reader: _Reader) -> Split:
    shuffled = [files[i] for i in fixed_order(len(files))]
    labels = np.array([label for _, label in shuffled], dtype=np.int64)
    return Split(labels, lambda indices: reader.read([shuffled[i][0] for i in indices]))


class _Reader:
    """Decodes image files, and holds all of them to the size and mode of the first one that it ever read."""

    def __init__(self) -> None:
        self._example: tuple[Path, NDArray[np.uint8]] | None = None

    def read(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """The images of `files`, uint8 [n, h, w, c] with 1 channel (grey) or 3 (red, green, blue)."""
        example_file, example = self._example = self._example or (files[0], _decode(files[0]))
        images = np.empty((len(files), *example.shape), dtype=np.uint8)

        def read_block(start: int) -> int:
            block = files[start : start + _BLOCK]
            for i, file in enumerate(block, start):
                image = _decode(file)
                if image.shape != example.shape:
                    raise ValueError(
                        f"data.path: expected images of one size, all grey or all colour, but {str(file)!r} is "
                        f"{_describe(image)} where {str(example_file)!r} is {_describe(example)}"
                    )
                images[i] = image
            return len(block)

        progress = tqdm(total=len(files), desc="Reading images", unit="image", disable=None, leave=False)
        with ThreadPoolExecutor() as pool, progress:
            for num_read in pool.map(read_block, range(0, len(files), _BLOCK)):  # in order: the first error is raised
                progress.update(num_read)
        return images


def _decode(file: Path) -> NDArray[np.uint8]:
    """One image as uint8 [h, w, c]."""
    try:
        with Image.open(file) as image:
            if image.mode not in _TARGET_MODE:
                raise ValueError(f"expected 8 bits a channel but got the mode {image.mode!r}")
            pixels = np.asarray(image.convert(_TARGET_MODE[image.mode]))
    except Exception as error:  # the decoders raise many kinds on a damaged file
        raise ValueError(f"data.path: cannot read the image {str(file)!r}: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _describe(image: NDArray[np.uint8]) -> str:
    height, width, channels = image.shape
    return f"{width} x {height} {'grey' if channels == 1 else 'colour'}"
