"""Whether data can be used as their section says: what a training would find, found before it.  Free of torch."""

from __future__ import annotations

import functools

from reluscope.data.array_files import open_arrays
from reluscope.data.image_tree import scan_tree
from reluscope.data.spec import DataSpec, capped, image_shape, num_test_images_imported

_TEST_IMAGES = {"digits": 297, "cifar10": 10_000, "cifar100": 10_000}


@functools.cache  # studies ask for each of their runs
def require_usable(spec: DataSpec) -> None:
    """Refuse items that are none, test images that there are not, and an augmentation that the images do not stand.

    Raises:
        FileNotFoundError, ValueError: as `spec.num_train_images`; or one line that names the key.
    """
    if spec.test_images is not None:
        available = _num_test_images(spec)
        if available is None:
            raise ValueError(
                f"data.test_images: expected none, {spec.described} has no test images, but got {spec.test_images}"
            )
        capped("data.test_images", spec.test_images, available)
    shape = image_shape(spec)
    if spec.flip or spec.crop_padding:
        if len(shape) != 3:
            raise ValueError(
                f"data.augmentation: expected none, it is for images [channels, height, width], but {spec.described} "
                f"holds items {list(shape)}"
            )
        if spec.crop_padding > min(shape[1:]):
            raise ValueError(
                f"data.augmentation.crop_padding: expected at most {min(shape[1:])}, the images' shorter side, but got "
                f"{spec.crop_padding}"
            )


def _num_test_images(spec: DataSpec) -> int | None:
    match spec.name:
        case "imagefolder":
            test = scan_tree(spec.folder).test
            return None if test is None else len(test)
        case "arrays":
            images = open_arrays(spec.folder).test_images
            return None if images is None else images.shape[0]
        case "import":
            return num_test_images_imported(spec)
        case _:
            return _TEST_IMAGES[spec.name]
