"""Image folders: decoding, order, selection, and the error for each kind of tree that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reluscope.data import Dataset, DataSpec, load
from reluscope.data.findings import findings
from reluscope.data.selection import fixed_order
from reluscope.data.spec import image_shape


def _write(
    root: Path, num_images: int, *, mode: str = "RGB", size: tuple[int, int] = (5, 4), seed: int = 0
) -> np.ndarray:
    """Write images to two classes in turn, as PNG; returns their pixels by class and then by name."""
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = rng.integers(0, 256, (num_images, height, width, len(mode)), dtype=np.uint8)
    for i, image in enumerate(pixels):
        file = root / ("cat", "dog")[i >= num_images // 2] / f"{i:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1) if mode == "L" else image).save(file)
    return pixels


def _load(root: Path, **config: Any) -> Dataset:
    return load(DataSpec.from_config({"name": "imagefolder", "path": str(root), **config}))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_come_back_in_the_fixed_shuffled_order(tmp_path: Path, mode: str) -> None:
    pixels = _write(tmp_path / "train", 300, mode=mode)  # more than one block of files
    test_pixels = _write(tmp_path / "test", 10, mode=mode, seed=1)
    dataset = _load(tmp_path)
    assert dataset.test is not None
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.shape == (len(mode), 4, 5)
    order = fixed_order(300)
    np.testing.assert_array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), pixels[order])
    np.testing.assert_array_equal(dataset.train.labels.numpy(), np.repeat([0, 1], 150)[order])
    np.testing.assert_array_equal(dataset.test.images.permute(0, 2, 3, 1).numpy(), test_pixels[fixed_order(10)])
    assert dataset.train.images.stride(1) == 1
    np.testing.assert_allclose(dataset.train.mean.numpy(), pixels.mean(axis=(0, 1, 2)) / 255, rtol=1e-5)
    assert torch.equal(dataset.train.mean, dataset.test.mean)


def test_selection_is_balanced_and_reads_only_what_it_takes(tmp_path: Path) -> None:
    _write(tmp_path, 40)
    whole = _load(tmp_path).train
    part = _load(tmp_path, images=10).train
    assert part.labels.bincount().tolist() == [5, 5]
    rows = iter(whole.images.flatten(1).tolist())
    kept = [any(row == other for other in rows) for row in part.images.flatten(1).tolist()]
    assert all(kept)  # in the order of the whole

    wanted = {bytes(image.numpy().tobytes()) for image in part.images.permute(0, 2, 3, 1)}
    for file in sorted(tmp_path.glob("*/*.png")):
        if np.asarray(Image.open(file)).tobytes() not in wanted:
            file.write_bytes(b"damaged")
    assert torch.equal(_load(tmp_path, images=10).train.images, part.images)


def test_colour_modes_mix_and_transparency_is_dropped(tmp_path: Path) -> None:
    _write(tmp_path, 4)
    Image.new("RGBA", (5, 4), (10, 20, 30, 0)).save(tmp_path / "cat" / "0000.png")
    Image.new("P", (5, 4)).save(tmp_path / "cat" / "0001.png")
    train = _load(tmp_path).train
    first = train.images[fixed_order(4).tolist().index(0)]
    assert first[:, 0, 0].tolist() == [10, 20, 30]


def test_no_test_folder(tmp_path: Path) -> None:
    _write(tmp_path, 4)
    assert _load(tmp_path).test is None
    with pytest.raises(ValueError, match=r"data.test_images: expected none, .* has no test images, but got 2"):
        _load(tmp_path, test_images=2)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            Image.new("L", (5, 4)),
            "expected images of one size, .* but '.*0007.png' is 5 x 4 grey where '.*' is 5 x 4 colour",
        ),
        (
            Image.new("RGB", (6, 4)),
            "expected images of one size, .* but '.*0007.png' is 6 x 4 colour where '.*' is 5 x 4 colour",
        ),
        (Image.new("I;16", (5, 4)), "cannot read the image '.*0007.png': expected 8 bits a channel .* 'I;16'"),
    ],
    ids=["grey", "size", "16 bit"],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_unlike_the_others(tmp_path: Path, split: str, odd: Image.Image, message: str) -> None:
    for name in ("train", "test"):
        _write(tmp_path / name, 8)
    odd.save(tmp_path / split / "dog" / "0007.png")
    with pytest.raises(ValueError, match=f"data.path: {message}") as error:
        _load(tmp_path)
    assert f"{split}/dog/0007.png" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 60], ids=["empty", "truncated"])
def test_an_unreadable_file(tmp_path: Path, keep: int) -> None:
    _write(tmp_path, 8)
    file = tmp_path / "cat" / "0002.png"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"data.path: cannot read the image '.*cat/0002.png': ") as error:
        _load(tmp_path)
    assert "\n" not in str(error.value)


def test_real_cifar10_images() -> None:
    """The published CIFAR-10 as a tree of JPEG files: class balance, and channel means to 1e-4."""
    folder = os.environ.get("RELUSCOPE_CIFAR10_FOLDER")
    if folder is None:
        pytest.skip("RELUSCOPE_CIFAR10_FOLDER names no folder of CIFAR-10 images")
    dataset = _load(Path(folder))
    assert dataset.train.labels.bincount().tolist() == [5_000] * 10
    assert dataset.test is not None
    assert dataset.test.labels.bincount().tolist() == [1_000] * 10
    np.testing.assert_allclose(dataset.train.mean.numpy(), [0.4913, 0.4821, 0.4465], atol=1e-4)


def test_resize_cuts_the_centre_to_the_aspect_and_scales(tmp_path: Path) -> None:
    """Stripes of one colour each, so that which were cut is seen in what is left."""
    for name, (height, width) in {
        "a/wide": (20, 60),
        "a/square": (40, 40),
        "b/tall": (90, 30),
        "b/small": (5, 5),
    }.items():
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[:, width // 4 : width - width // 4, 0] = 200  # the middle half, from left to right
        pixels[height // 4 : height - height // 4, :, 1] = 100  # and from top to bottom
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(tmp_path), "resize": [16, 16]})
    train = load(spec).train
    assert train.shape == image_shape(spec) == (3, 16, 16)
    names = ["square", "wide", "small", "tall"]  # as scan_tree sorts them
    by_name = {
        names[number]: image.int() for number, image in zip(fixed_order(4), train.take(slice(0, 4)), strict=True)
    }
    assert torch.all(by_name["wide"][0, :, 2:14] > 190)  # 20 of 60 columns are left, all within the middle 30
    assert torch.all(by_name["tall"][1, 2:14] > 95)
    for name in ("square", "wide"):
        assert torch.all(by_name[name][1, [0, 1, 14, 15]] < 10)  # rows are only scaled
        assert torch.all(by_name[name][1, 6:10] > 95)


def test_resize_to_another_aspect(tmp_path: Path) -> None:
    pixels = _write(tmp_path, 2, size=(8, 8))
    train = _load(tmp_path, resize=[4, 8]).train
    rows = [pixels[i, 2:6] for i in fixed_order(2)]  # the middle half is left, and not scaled
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1).numpy(), np.stack(rows))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_mix_where_channels_say_as_what(channels: int, tmp_path: Path) -> None:
    _write(tmp_path, 4, mode="L")
    Image.new("RGB", (5, 4), (50, 50, 50)).save(tmp_path / "cat" / "0000.png")
    with pytest.raises(ValueError, match=r"data.channels: 1 or 3 all grey or all colour"):
        _load(tmp_path)
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(tmp_path), "channels": channels})
    train = load(spec).train
    assert train.shape == image_shape(spec) == (channels, 4, 5)
    assert torch.all(train.take(torch.tensor([fixed_order(4).tolist().index(0)])) == 50)
    assert torch.all(train.images[:, :1] == train.images)


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    dataset = _load(tmp_path)
    assert (dataset.train.labels, dataset.num_classes, dataset.class_names) == (None, 0, ())
    np.testing.assert_array_equal(dataset.train.images.permute(0, 2, 3, 1).numpy(), pixels[fixed_order(6)])


def _turned(tmp_path: Path, orientation: int) -> np.ndarray:
    """Four photographs, one of them with an EXIF orientation; its pixels as stored."""
    pixels = _write(tmp_path, 4, size=(5, 5))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels[0]).save(tmp_path / "cat/0000.png", exif=exif)
    return pixels[0]


_SHOWN = {  # what EXIF says of where the stored first row and column are seen, by hand
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", _SHOWN)
def test_exif_orientation_is_told_or_applied(
    tmp_path: Path, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = _turned(tmp_path, orientation)
    place = fixed_order(4).tolist().index(0)
    said = (
        f"data.path: '{tmp_path}/cat/0000.png', to be turned or mirrored by EXIF data, is taken as it is stored, as by "
        "torchvision; data.exif_orientation: true turns it"
    )
    for _ in range(2):
        images = _load(tmp_path).train.images.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(images[place], stored)
        assert capsys.readouterr().err == f"{said}\n"
    config = {"name": "imagefolder", "path": str(tmp_path)}
    assert findings(DataSpec.from_config(config)) == [f"{said} (1 of the first 4 images)"]

    spec = DataSpec.from_config({**config, "exif_orientation": True})
    assert DataSpec.from_config(spec.to_dict()) == spec
    images = load(spec).train.images.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images[place], _SHOWN[orientation](stored))
    assert findings(spec) == []
    assert capsys.readouterr().err == ""


def test_photographs_on_their_side_have_one_size_when_turned(tmp_path: Path) -> None:
    for name in ("a/1", "b/2"):
        (tmp_path / name).parent.mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.jpg", exif=exif)
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(tmp_path), "exif_orientation": True})
    assert load(spec).train.shape == image_shape(spec) == (3, 6, 4)


def test_images_without_exif_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _turned(tmp_path, 1)
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(tmp_path)})
    assert findings(spec) == []
    load(spec)
    assert capsys.readouterr().err == ""
    assert "exif_orientation" not in spec.to_dict()
