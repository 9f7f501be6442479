"""Any folder of images, one subfolder a class."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reluscope.data.decoding import NOT_TURNED, is_turned, pixels_of
from reluscope.data.image_tree import scan_tree
from reluscope.data.selection import fixed_order
from reluscope.data.source import Source, Split
from reluscope.data.spec import DataSpec

_THREADS = min(32, (os.cpu_count() or 1) + 4)
_BLOCK = 128  # most files a thread decodes at a time; fewer cost more hand-overs than they balance


def imagefolder_source(spec: DataSpec) -> Source:
    """The tree in `spec.path` (see `image_tree.scan_tree`), each split in one fixed shuffled order.

    All images must have one size, unless `spec.resize` gives them one, and be all grey (8 bit) or all colour, unless
    `spec.channels` says as which they are read; transparency is dropped. The first selected training image sets the
    example. EXIF orientation is applied where `spec.exif_orientation` asks for it; else the first image that has one is
    named on standard error.
    """
    tree = scan_tree(spec.folder)
    reader = _Reader(spec.channels, spec.resize, spec.exif_orientation)
    labelled = bool(tree.class_names)
    test = None if tree.test is None else _split(tree.test, reader, labelled)
    return Source(tree.class_names, _split(tree.train, reader, labelled), test)


def _split(files: Sequence[tuple[Path, int]], reader: _Reader, labelled: bool) -> Split:
    shuffled = [files[i] for i in fixed_order(len(files))]
    labels = np.array([label for _, label in shuffled], dtype=np.int64) if labelled else None
    return Split(len(files), labels, lambda indices: reader.read([shuffled[i][0] for i in indices]))


class _Reader:
    """Decodes image files, and holds all of them to the size and mode of the first one that it ever read."""

    def __init__(self, channels: int | None, resize: tuple[int, int] | None, turn: bool) -> None:
        self._channels = channels
        self._resize = resize
        self._turn = turn
        self._turned: list[Path] = []  # by their EXIF data, which are not followed; the first one is told
        self._example: tuple[Path, NDArray[np.uint8]] | None = None
        self._is_told = False
        self._pool = ThreadPoolExecutor(_THREADS)

    def read(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """The images of `files`, uint8 [n, h, w, c] with 1 channel (grey) or 3 (red, green, blue)."""
        example_file, example = self._example = self._example or (files[0], self._decode(files[0]))
        images = np.empty((len(files), *example.shape), dtype=np.uint8)
        size = min(_BLOCK, -(-len(files) // _THREADS))

        def read_block(start: int) -> None:
            for i, file in enumerate(files[start : start + size], start):
                image = self._decode(file)
                if image.shape != example.shape:
                    raise ValueError(
                        f"data.path: expected images of one size, all grey or all colour, but {str(file)!r} is "
                        f"{_describe(image)} where {str(example_file)!r} is {_describe(example)}; data.resize: "
                        "[height, width] makes them one size, data.channels: 1 or 3 all grey or all colour"
                    )
                images[i] = image

        for _ in self._pool.map(read_block, range(0, len(files), size)):  # in order: the first error is raised
            pass
        if self._turned and not self._is_told:
            self._is_told = True
            print(f"data.path: {str(min(self._turned))!r}, {NOT_TURNED}", file=sys.stderr, flush=True)
        return images

    def _decode(self, file: Path) -> NDArray[np.uint8]:
        """One image as uint8 [h, w, c]."""
        try:
            with Image.open(file) as image:
                if not self._turn and not self._is_told and is_turned(image):
                    self._turned.append(file)
                return pixels_of(image, channels=self._channels, resize=self._resize, turn=self._turn)
        except Exception as error:  # the decoders raise many kinds on a damaged file
            raise ValueError(f"data.path: cannot read the image {str(file)!r}: {error}") from error


def _describe(image: NDArray[np.uint8]) -> str:
    height, width, channels = image.shape
    return f"{width} x {height} {'grey' if channels == 1 else 'colour'}"
