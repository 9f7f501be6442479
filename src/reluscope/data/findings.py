"""What is worth telling of data before they are used.  No torch."""

from __future__ import annotations

import functools

from reluscope.data import array_files, image_tree
from reluscope.data.spec import DataSpec

_LOOKED_AT = 1_000


@functools.cache  # studies ask for each of their runs
def findings(spec: DataSpec) -> list[str]:
    """A line each.

    Of an image folder: what `image_tree.findings` finds, and how many of its first training images are to be turned by
    their EXIF data and are not. Of Zarr arrays, how many of their chunks have no file.

    Raises:
        FileNotFoundError, ValueError: as `image_tree.scan_tree` and `array_files.open_arrays`.
    """
    if spec.name == "arrays":
        return [f"data.path: {line}" for line in array_files.findings(spec.folder)]
    if spec.name != "imagefolder":
        return []
    from reluscope.data.decoding import NOT_TURNED, is_file_turned  # others do without Pillow

    tree = image_tree.scan_tree(spec.folder)
    lines = image_tree.findings(spec.folder, tree)
    if not spec.exif_orientation:
        files = [file for file, _ in tree.train[:_LOOKED_AT]]
        if turned := [file for file in files if is_file_turned(file)]:
            lines.append(f"{str(turned[0])!r}, {NOT_TURNED} ({len(turned):,} of the first {len(files):,} images)")
    return [f"data.path: {line}" for line in lines]
