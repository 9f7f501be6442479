"""ImageSet: shapes, memory format, and normalisation against torchvision's transforms and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reluscope.data.images import ImageSet, channel_statistics
from reluscope.guarded_torchvision import torchvision

MEAN, STD = (0.49139969, 0.48215842, 0.44653092), (0.24703318, 0.24348606, 0.26158884)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def image_set(request: pytest.FixtureRequest) -> ImageSet:
    channels = request.param
    pixels = np.random.default_rng(0).integers(0, 256, (20, 5, 7, channels), dtype=np.uint8)
    return ImageSet(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.arange(20) % 4,
        torch.tensor(MEAN[:channels]),
        torch.tensor(STD[:channels]),
    )


def test_shape_and_length(image_set: ImageSet) -> None:
    assert len(image_set) == 20
    assert image_set.shape == (image_set.images.shape[1], 5, 7)


@pytest.mark.parametrize("index", [slice(4, 12), slice(15, 40), torch.tensor([19, 0, 0, 7])], ids=str)
def test_indexing_normalises_like_torchvision_bit_for_bit(image_set: ImageSet, index: slice | torch.Tensor) -> None:
    to_tensor = torchvision.transforms.ToTensor()
    normalize = torchvision.transforms.Normalize(image_set.mean.tolist(), image_set.std.tolist())
    pixels = image_set.images.permute(0, 2, 3, 1).numpy()[index]
    batch = image_set[index]
    assert torch.equal(batch, torch.stack([normalize(to_tensor(image)) for image in pixels]))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.stride(1) == 1  # also where one channel makes every format look contiguous


def test_normalise_of_raw_images_is_what_indexing_gives(image_set: ImageSet) -> None:
    index = torch.tensor([3, 1, 8])
    raw = image_set.take(index)
    assert raw.dtype == torch.uint8
    assert torch.equal(raw, image_set.images[index])
    assert torch.equal(image_set.normalise(raw), image_set[index])
    assert torch.equal(image_set.images[index], raw)  # normalising leaves the raw images alone


def test_to_moves_every_tensor(image_set: ImageSet) -> None:
    moved = image_set.to("meta")
    assert {t.device.type for t in (moved.images, moved.labels, moved.mean, moved.std)} == {"meta"}
    assert image_set.images.device.type == "cpu"


def test_channel_statistics_against_float64() -> None:
    pixels = np.random.default_rng(1).integers(0, 200, (30, 4, 6, 3), dtype=np.uint8)
    mean, std = channel_statistics([pixels[:1], pixels[1:]])
    exact = pixels.astype(np.float64) / 255
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, exact.std(axis=(0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_normalises_to_zero() -> None:
    pixels = np.full((3, 2, 2, 2), 77, dtype=np.uint8)
    pixels[0, 0, 0, 1] = 0
    mean, std = (torch.from_numpy(values) for values in channel_statistics([pixels[:1], pixels[1:]]))
    assert std[0] == 1
    assert 0 < std[1] < 1
    image_set = ImageSet(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.zeros(3, dtype=torch.int64), mean, std)
    assert torch.all(image_set[0:3][:, 0].abs() < 1e-7)
