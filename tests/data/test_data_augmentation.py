"""The batched augmentation against one image at a time in NumPy, and against torchvision's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reluscope.data.augmentation import augment, draw_augmentation
from reluscope.guarded_torchvision import torchvision


def _images(n: int, channels: int = 3, height: int = 6, width: int = 9) -> torch.Tensor:
    """Pixels 1..255, so that black is padding.  channels_last."""
    pixels = np.random.default_rng(n).integers(1, 256, (n, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _one_by_one(images: torch.Tensor, flip: bool, padding: int, generator: torch.Generator) -> np.ndarray:
    flips, top, left = (draw.tolist() for draw in draw_augmentation(len(images), padding, generator))
    _, _, height, width = images.shape
    result = []
    for i, image in enumerate(images.numpy()):
        flipped = image[:, :, ::-1] if flip and flips[i] else image
        padded = np.pad(flipped, ((0, 0), (padding, padding), (padding, padding)))
        result.append(padded[:, top[i] : top[i] + height, left[i] : left[i] + width])
    return np.stack(result)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 1, 4, 12])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
def test_equals_one_image_at_a_time(
    channels: int, padding: int, flip: bool, memory_format: torch.memory_format
) -> None:
    images = _images(40, channels).contiguous(memory_format=memory_format)
    before = images.clone()
    augmented = augment(images, flip=flip, crop_padding=padding, generator=_generator())
    np.testing.assert_array_equal(augmented.numpy(), _one_by_one(images, flip, padding, _generator()))
    assert augmented.dtype == torch.uint8
    assert augmented.stride(1) == 1
    assert augmented.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_every_outcome_is_one_of_torchvisions_and_all_occur() -> None:
    """4,000 draws of one image: the 2 x 9 images that RandomHorizontalFlip and RandomCrop make, about equally often."""
    image = _images(1, height=4, width=4)
    pad, functional = 1, torchvision.transforms.functional
    outcomes = {
        functional.crop(functional.pad(flipped, pad), top, left, 4, 4).numpy().tobytes(): 0
        for flipped in (image[0], functional.hflip(image[0]))
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    }
    assert len(outcomes) == 18
    for one in augment(image.expand(4_000, -1, -1, -1), flip=True, crop_padding=pad, generator=_generator()):
        outcomes[one.contiguous().numpy().tobytes()] += 1
    assert all(abs(times - 4_000 / 18) < 5 * (4_000 / 18) ** 0.5 for times in outcomes.values())


def test_the_generator_alone_decides_and_advances_by_the_same_amount() -> None:
    images = _images(16)
    state = {}
    for flip, padding in [(False, 0), (True, 0), (False, 4), (True, 4)]:
        generator = _generator()
        torch.manual_seed(padding)  # the global generator plays no part
        first = augment(images, flip=flip, crop_padding=padding, generator=generator)
        assert torch.equal(first, augment(images, flip=flip, crop_padding=padding, generator=_generator()))
        state[flip, padding] = generator.get_state()
    assert all(torch.equal(state[False, 0], other) for other in state.values())
    assert torch.equal(augment(images, flip=False, crop_padding=0, generator=_generator()), images)


def test_crops_do_not_depend_on_whether_flips_are_on() -> None:
    """Mirror-symmetric images: switching the flip on changes nothing."""
    half = _images(16, width=5)
    images = torch.cat([half, half.flip(3)], dim=3)
    on, off = (augment(images, flip=flip, crop_padding=3, generator=_generator()) for flip in (True, False))
    assert torch.equal(on, off)
