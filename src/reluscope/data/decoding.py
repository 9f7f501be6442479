"""Pictures as pixels.  No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_TARGET_MODE = dict.fromkeys(("1", "L", "LA"), "L") | dict.fromkeys(
    ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"
)
_MODE_OF = {1: "L", 3: "RGB"}

NOT_TURNED = (
    "to be turned or mirrored by EXIF data, is taken as it is stored, as by torchvision; "
    "data.exif_orientation: true turns it"
)

_ORIENTATION = 0x0112  # EXIF's number of it


def num_channels(image: Image.Image) -> int:
    """1 for a grey picture, 3 for one in colour.

    Raises:
        ValueError: it has more than 8 bits a channel.
    """
    return 1 if _target_mode(image) == "L" else 3


def is_turned(image: Image.Image) -> bool:
    """Whether its EXIF data say that it is to be shown turned or mirrored."""
    return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def is_file_turned(file: Path) -> bool:
    """The same of a file; False where it cannot be read, which who decodes it says."""
    try:
        with Image.open(file) as image:
            return is_turned(image)
    except Exception:  # the decoders raise many kinds on a damaged file
        return False


def is_sideways(image: Image.Image) -> bool:
    """Whether its EXIF data exchange its width and height."""
    return image.getexif().get(_ORIENTATION, 1) in range(5, 9)


def pixels_of(
    image: Image.Image, *, channels: int | None = None, resize: tuple[int, int] | None = None, turn: bool = False
) -> NDArray[np.uint8]:
    """uint8 [h, w, c]; transparency is dropped.

    Args:
        channels: 1 makes it grey, 3 makes it a colour picture; as it is for None.
        resize: (height, width) to which it is scaled, bilinearly and with antialiasing, after both sides of its centre
            were cut down to that aspect.
        turn: first turn and mirror it as its EXIF data say.

    Raises:
        ValueError: it has more than 8 bits a channel.
    """
    mode = _target_mode(image)
    if turn:
        image = ImageOps.exif_transpose(image)
    image = image.convert(mode if channels is None else _MODE_OF[channels])
    if resize is not None:
        height, width = resize
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _target_mode(image: Image.Image) -> str:
    if image.mode not in _TARGET_MODE:
        raise ValueError(f"expected 8 bits a channel but got the mode {image.mode!r}")
    return _TARGET_MODE[image.mode]
