"""Pictures as pixels.  No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_TARGET_MODE = dict.fromkeys(("1", "L", "LA"), "L") | dict.fromkeys(
    ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"
)
_MODE_OF = {1: "L", 3: "RGB"}


def num_channels(image: Image.Image) -> int:
    """1 for a grey picture, 3 for one in colour.

    Raises:
        ValueError: it has more than 8 bits a channel.
    """
    return 1 if _target_mode(image) == "L" else 3


def pixels_of(
    image: Image.Image, *, channels: int | None = None, resize: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """uint8 [h, w, c]; transparency is dropped.

    Args:
        channels: 1 makes it grey, 3 makes it a colour picture; as it is for None.
        resize: (height, width) to which it is scaled, bilinearly and with antialiasing, after both sides of its centre
            were cut down to that aspect.

    Raises:
        ValueError: it has more than 8 bits a channel.
    """
    mode = _target_mode(image)
    image = image.convert(mode if channels is None else _MODE_OF[channels])
    if resize is not None:
        height, width = resize
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _target_mode(image: Image.Image) -> str:
    if image.mode not in _TARGET_MODE:
        raise ValueError(f"expected 8 bits a channel but got the mode {image.mode!r}")
    return _TARGET_MODE[image.mode]
