"""Arrays and imported data sets, against the NumPy arrays that were stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from reluscope.data import Dataset, DataSpec, load
from reluscope.data.selection import balanced_subset
from reluscope.data.spec import fingerprint, image_shape, num_train_images, require_images, require_labels

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(40) % 3
TEST_PIXELS = RNG.integers(0, 256, (10, 6, 7, 3), dtype=np.uint8)
TEST_LABELS = np.arange(10) % 4  # a class that the training images lack

STORES = ["data.npz", "compressed.npz", "folder", "v3.zarr", "v2.zarr"]


def write(root: Path, store: str, **arrays: Any) -> str:
    path = root / store
    if store.endswith(".npz"):
        (np.savez_compressed if store.startswith("compressed") else np.savez)(path, **arrays)
    elif store.endswith(".npy"):
        np.save(path, arrays["images"])
    elif store.endswith(".zarr"):
        group = zarr.open_group(str(path), mode="w", zarr_format=int(store[1]))
        for name, array in arrays.items():
            stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(7, *array.shape[1:]))
            stored[...] = array
    else:
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    return str(path)


def spec_of(path: str, **config: Any) -> DataSpec:
    return DataSpec.from_config({"name": "arrays", "path": path, **config})


def load_arrays(path: str, **config: Any) -> Dataset:
    return load(spec_of(path, **config))


def normalised(pixels: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Pixels [n, h, w, c] by the statistics of `over`, as [n, c, h, w], in float64."""
    mean, std = over.mean(axis=(0, 1, 2)), over.std(axis=(0, 1, 2))
    return np.moveaxis((pixels - mean) / std, 3, 1)


@pytest.mark.parametrize(
    ("store", "stream"),
    [(store, stream) for store in STORES for stream in (False, True) if not (stream and "npz" in store)],
)
def test_every_kind_of_store_in_its_own_order(store: str, stream: bool, tmp_path: Path) -> None:
    path = write(
        tmp_path, store, images=PIXELS, labels=LABELS, test_images=TEST_PIXELS, test_labels=TEST_LABELS, extra=LABELS
    )
    spec = spec_of(path, stream=stream)
    dataset = load(spec)
    assert dataset.test is not None
    assert dataset.train.labels is not None
    np.testing.assert_array_equal(dataset.train.take(slice(0, 40)).numpy(), np.moveaxis(PIXELS, 3, 1))
    np.testing.assert_array_equal(dataset.test.take(slice(0, 10)).numpy(), np.moveaxis(TEST_PIXELS, 3, 1))
    np.testing.assert_allclose(dataset.train[5:30].numpy(), normalised(PIXELS[5:30], PIXELS), atol=2e-6)
    np.testing.assert_allclose(dataset.test[:].numpy(), normalised(TEST_PIXELS, PIXELS), atol=2e-6)
    np.testing.assert_array_equal(dataset.train.labels.numpy(), LABELS)
    assert (dataset.num_classes, dataset.class_names) == (4, ("0", "1", "2", "3"))
    assert (num_train_images(spec), image_shape(spec), dataset.train.shape) == (40, (3, 6, 7), (3, 6, 7))
    require_labels(spec)
    require_images(spec)


@pytest.mark.parametrize("kind", ["npy", "zarr array"])
def test_a_single_array_is_images_without_labels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    if kind == "npy":
        np.save(path, PIXELS)
    else:
        zarr.save_array(str(path), PIXELS)
    dataset = load_arrays(str(path))
    np.testing.assert_array_equal(dataset.train.take(slice(0, 40)).numpy(), np.moveaxis(PIXELS, 3, 1))
    assert dataset.train.labels is None
    assert (dataset.num_classes, dataset.class_names, dataset.test) == (0, (), None)
    with pytest.raises(ValueError, match=r"^data: expected labels to train on, an array of labels beside .* has none$"):
        require_labels(spec_of(str(path)))


@pytest.mark.parametrize(
    ("pixels", "layout"),
    [
        (PIXELS, None),
        (PIXELS, "channels_last"),
        (np.moveaxis(PIXELS, 3, 1), None),
        (np.moveaxis(PIXELS, 3, 1), "channels_first"),
        (np.asfortranarray(PIXELS), None),
    ],
)
def test_the_layout_of_uint8_images_is_told(pixels: np.ndarray, layout: str | None, tmp_path: Path) -> None:
    spec = spec_of(write(tmp_path, "x.npy", images=pixels), layout=layout)
    train = load(spec).train
    np.testing.assert_array_equal(train.take(torch.tensor([3, 1])).numpy(), np.moveaxis(PIXELS[[3, 1]], 3, 1))
    assert image_shape(spec) == (3, 6, 7)


def test_grey_images_need_no_axis_for_channels(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    spec = spec_of(write(tmp_path, "x.npy", images=grey))
    np.testing.assert_allclose(load(spec).train[:].numpy(), (grey[:, None] - grey.mean()) / grey.std(), atol=2e-6)
    assert image_shape(spec) == (1, 6, 7)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
@pytest.mark.parametrize("shape", [(20, 5), (20, 4, 3, 2), (20, 2, 2, 2, 2)])
def test_floats_are_taken_as_they_are(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.normal(size=shape).astype(dtype)
    spec = spec_of(write(tmp_path, "x.npy", images=values))
    train = load(spec).train
    np.testing.assert_array_equal(train[2:9].numpy(), values[2:9].astype(np.float32))
    assert (train[0:1].dtype, image_shape(spec), train.shape) == (torch.float32, shape[1:], shape[1:])
    train[0:5].zero_()  # as an operation in place at a network's beginning would
    np.testing.assert_array_equal(train[0:5].numpy(), values[0:5].astype(np.float32))


def test_floats_with_channels_last_where_the_config_says_so(tmp_path: Path) -> None:
    values = RNG.normal(size=(5, 4, 3, 2)).astype(np.float32)
    spec = spec_of(write(tmp_path, "x.npy", images=values), layout="channels_last")
    np.testing.assert_array_equal(load(spec).train[:].numpy(), np.moveaxis(values, 3, 1))
    assert image_shape(spec) == (2, 4, 3)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64])
def test_other_integers_are_token_ids(dtype: Any, tmp_path: Path) -> None:
    tokens = RNG.integers(0, 30_000, (12, 16)).astype(dtype)
    spec = spec_of(write(tmp_path, "x.npy", images=tokens))
    batch = load(spec).train[3:6]
    np.testing.assert_array_equal(batch.numpy(), tokens[3:6])
    assert batch.dtype == torch.int64
    with pytest.raises(ValueError, match=r"^data: expected images .* holds int64 \[16\], which take a network of your"):
        require_images(spec)


def test_subsets_are_balanced_with_labels_and_drawn_without(tmp_path: Path) -> None:
    labelled = load_arrays(write(tmp_path, "a.npz", images=PIXELS, labels=LABELS), images=9).train
    assert labelled.labels is not None
    assert labelled.labels.bincount().tolist() == [3, 3, 3]
    chosen = balanced_subset(np.zeros(40, np.int64), 9)
    bare = load_arrays(write(tmp_path, "b.npy", images=PIXELS), images=9).train
    np.testing.assert_array_equal(bare.take(slice(0, 9)).numpy(), np.moveaxis(PIXELS[chosen], 3, 1))
    np.testing.assert_allclose(bare[:].numpy(), normalised(PIXELS[chosen], PIXELS[chosen]), atol=2e-6)


FLOATS = np.ones((4, 3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": FLOATS, "y_train": FLOATS},
            "no array 'images' in '.*', which holds x_train, y_train; expected a .npz",
        ),
        ({"images": np.array([{}, {}])}, "images in .*: expected numbers, but got Python objects"),
        ({"images": FLOATS[:0]}, r"images in .*: expected \[n, ...\] with n at least 1, but got float64 \[0, 3\]"),
        ({"images": np.ones(3)}, r"images in .*: expected \[n, ...\] .* got float64 \[3\]"),
        ({"images": FLOATS > 0}, r"expected items of uint8 \(images\), floats or integers, but .* holds bool \[3\]"),
        (
            {"images": FLOATS, "test_images": FLOATS[:, :2]},
            r"test_images in .*: expected float64 \[n, 3\], as images are, but got float64 \[n, 2\]",
        ),
        ({"images": np.full((4, 3), np.nan)}, "expected finite float32 numbers, but item 0 holds NaN or infinity"),
        ({"images": np.diag([1, 1, 1e300, 1])}, "expected finite float32 numbers, but item 2 holds NaN or infinity"),
        ({"images": PIXELS[:, :3]}, r"data.layout: expected channels_first or channels_last, which cannot be told, as"),
        (
            {"images": PIXELS[..., [0, 1]]},
            "data.layout: expected channels_first or channels_last, which cannot be told",
        ),
        ({"images": PIXELS[:, 0, :, 0:1, None, None]}, "expected uint8 images"),
    ],
)
def test_arrays_that_cannot_be_used(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    with pytest.raises(ValueError, match=message) as caught, np.errstate(over="ignore"):
        load_arrays(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [1, 2]}, r"labels in .*: expected integers \[4\], one an image, but got int64 \[2\]"),
        ({"labels": np.ones(4)}, r"labels in .*: expected integers \[4\], .* got float64 \[4\]"),
        ({"labels": np.ones((4, 1), int)}, r"labels in .*: expected integers \[4\], .* got int64 \[4, 1\]"),
        ({"labels": [0, 1, -1, 0]}, "expected labels that number the classes from 0, but got -1"),
        ({"labels": [0] * 4, "test_images": FLOATS}, "expected labels and test_labels, or neither"),
        ({"test_labels": [0] * 4}, "test_labels in .*: expected test_images with them, but got none"),
    ],
)
@pytest.mark.parametrize("store", ["a.npz", "folder", "v3.zarr"])
def test_labels_that_cannot_be_used_stop_only_who_needs_them(
    arrays: dict[str, Any], message: str, store: str, tmp_path: Path
) -> None:
    given = {name: np.asarray(array) for name, array in {"images": FLOATS, **arrays}.items()}
    path = write(tmp_path, store, **given)
    dataset = load_arrays(path)
    np.testing.assert_array_equal(dataset.train[:4].numpy(), FLOATS.astype(np.float32))
    assert (dataset.train.labels, dataset.num_classes, dataset.class_names) == (None, 0, ())
    for refuse in (dataset.require_labels, lambda: require_labels(spec_of(path))):
        with pytest.raises(ValueError, match=message) as caught:
            refuse()
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("data")


@pytest.mark.parametrize(
    ("form", "test", "message"),
    [
        ("label -1", None, "data.import: expected labels that number the classes from 0, but got -1"),
        ("label missing", None, r"expected \(x, label\) with a whole number, as item 0 is, but item 7 has none"),
        (
            "array and int",
            "array alone",
            "data.test_arguments: expected items with labels, or without, as those for tr",
        ),
    ],
)
def test_labels_of_items_that_cannot_be_used_stop_only_who_needs_them(
    form: str, test: str | None, message: str
) -> None:
    dataset = load(imported(form, **({} if test is None else {"test_arguments": {"form": test, "train": False}})))
    np.testing.assert_array_equal(dataset.train.take(slice(0, 40)).numpy(), np.moveaxis(PIXELS, 3, 1))
    assert (dataset.train.labels, dataset.num_classes) == (None, 0)
    with pytest.raises(ValueError, match=message):
        dataset.require_labels()


@pytest.mark.parametrize("name", ["damaged.npz", "damaged.npy", "objects.npy", "text.txt", "empty folder"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "empty folder":
        path.mkdir()
    elif name == "objects.npy":
        np.save(path, np.array([{}, {}]))
    else:
        path.write_text("nothing of the kind")
    with pytest.raises(
        ValueError, match=r"^data.path: .*; expected a .npz, a .npy, a folder with images.npy"
    ) as caught:
        num_train_images(spec_of(str(path)))
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"data.path: no file or folder '.*nowhere' in .*; expected a .npz"):
        num_train_images(spec_of(str(tmp_path / "nowhere")))


@pytest.mark.parametrize("store", ["x.npy", "v3.zarr", "data.npz"])
@pytest.mark.parametrize("row", [0, 150, 299])
def test_another_content_has_another_fingerprint(store: str, row: int, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (300, 6, 7, 3), dtype=np.uint8)
    spec = spec_of(write(tmp_path, store, images=pixels))
    before = fingerprint.__wrapped__(spec)
    assert fingerprint.__wrapped__(spec) == before
    pixels[row, 0, 0, 0] ^= 1
    write(tmp_path, store, images=pixels)
    assert fingerprint.__wrapped__(spec) != before


class Listed(TorchDataset):
    """A torch Dataset in each of the forms that items may have."""

    def __init__(self, form: str, train: bool = True, n: int = 40) -> None:
        self.form = form
        self.pixels, self.labels = (PIXELS[:n], LABELS) if train else (TEST_PIXELS, TEST_LABELS)
        if form == "targets":
            self.targets, self.classes = self.labels.tolist(), ["cat", "dog", "cow", "hen"]
        if form == "wrong targets":
            self.targets = (self.labels + 1).tolist()
        if form == "targets that are transformed":  # sorted, so that the first ones stay as they are
            self.labels = np.sort(self.labels)
            self.targets = torch.from_numpy(self.labels)
        if form == "targets in words":
            self.targets = [f"class {label}" for label in self.labels]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        image, label = self.pixels[index], int(self.labels[index])
        match self.form:
            case "targets that are transformed":
                return image, label % 2
            case "bare tensor":
                return torch.from_numpy(image.copy()).permute(2, 0, 1)
            case "bare list":
                return image.tolist()
            case "picture and tensor":
                return Image.fromarray(image), torch.tensor(label)
            case "ragged":
                return image[: 6 - index // 7]
            case "label -1":
                return image, label if index != 7 else -1
            case "label missing":
                return (image, label) if index != 7 else image
            case "array alone":
                return image
            case "random":
                return image, int(torch.randint(1_000, ()))
            case "fails":
                return self.pixels[index + 20], label
        return image, label


def imported(form: str, **config: Any) -> DataSpec:
    return DataSpec.from_config({"import": f"{__name__}:Listed", "arguments": {"form": form}, **config})


@pytest.mark.parametrize("form", ["array and int", "bare tensor", "picture and tensor", "targets", "wrong targets"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_imported_data_set_in_its_own_order(form: str, stream: bool) -> None:
    spec = imported(form, test_arguments={"train": False}, stream=stream)
    dataset = load(spec)
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.train.take(slice(0, 40)).numpy(), np.moveaxis(PIXELS, 3, 1))
    np.testing.assert_allclose(dataset.train[10:20].numpy(), normalised(PIXELS[10:20], PIXELS), atol=2e-6)
    np.testing.assert_array_equal(
        dataset.test.take(torch.tensor([9, 0])).numpy(), np.moveaxis(TEST_PIXELS[[9, 0]], 3, 1)
    )
    assert (num_train_images(spec), image_shape(spec)) == (40, (3, 6, 7))
    if form == "bare tensor":
        assert dataset.train.labels is None
        with pytest.raises(ValueError, match=r"expected labels to train on, items \(x, label\) with a whole number"):
            require_labels(spec)
        return
    assert dataset.train.labels is not None
    np.testing.assert_array_equal(dataset.train.labels.numpy(), LABELS)
    require_labels(spec)
    assert dataset.class_names == (("cat", "dog", "cow", "hen") if form == "targets" else ("0", "1", "2", "3"))


def test_labels_are_those_of_the_items_and_not_of_another_attribute() -> None:
    labels = load(imported("targets that are transformed")).train.labels
    assert labels is not None
    np.testing.assert_array_equal(labels.numpy(), np.sort(LABELS) % 2)
    named = load(imported("targets in words")).train.labels
    assert named is not None
    np.testing.assert_array_equal(named.numpy(), LABELS)


def test_other_arrays_beside_ours_may_be_of_any_kind(tmp_path: Path) -> None:
    folder = write(tmp_path, "folder", images=PIXELS, labels=LABELS)
    np.save(Path(folder) / "meta.npy", np.array([{"any": "object"}]), allow_pickle=True)
    group = write(tmp_path, "v3.zarr", images=PIXELS, labels=LABELS)
    zarr.open_group(str(group), mode="r+").create_array("spatial_ref", shape=(), dtype="i8")
    for path in (folder, group):
        assert len(load(spec_of(path)).train) == len(PIXELS)


def test_a_data_set_of_torchvision() -> None:
    spec = DataSpec.from_config(
        {
            "import": "torchvision.datasets:FakeData",
            "arguments": {"size": 12, "image_size": [3, 8, 9], "num_classes": 4},
            "images": 5,
        }
    )
    train = load(spec).train
    assert (len(train), train.shape, num_train_images(spec)) == (5, (3, 8, 9), 5)
    assert train.labels is not None
    assert abs(float(train[:].mean())) < 1e-5


def test_another_imported_content_has_another_fingerprint() -> None:
    prints = {
        fingerprint(spec)
        for spec in (
            imported("array and int"),
            imported("bare tensor"),
            imported("targets", arguments={"form": "targets", "train": False}),
            imported("targets", arguments={"form": "targets", "n": 39}),
            imported("targets", test_arguments={"train": False}),
        )
    }
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"import": "no_such_package:name"}, "data.import no_such_package:name: there is no package"),
        ({"import": "builtins:dict", "arguments": {}}, "expected at least one item, but the data set is empty"),
        ({"import": "builtins:object"}, r"expected a data set with len\(\) whose items .* but got object"),
        ({"arguments": {"forn": "x"}}, "Listed.*raised TypeError: .*unexpected keyword argument 'forn'"),
        ({"arguments": {"form": "bare list"}}, "expected items that are a tensor, .* but item 0 is of type list"),
        (
            {"arguments": {"form": "random"}},
            "expected the same item whenever it is read, but item 0 changes; leave random",
        ),
        ({"arguments": {"form": "fails"}}, "item 20 cannot be read: IndexError"),
        (
            {"arguments": {"form": "ragged"}},
            r"expected items of one shape and type, but item 7 is uint8 \[5, 7, 3\] where item 0 is uint8 \[6, 7, 3\]",
        ),
        (
            {"test_arguments": {"form": "bare tensor"}},
            r"data.test_arguments: expected items as those for training, uint8 \[6, 7, 3\], but got uint8 \[3, 6, 7\]",
        ),
    ],
)
def test_data_sets_that_cannot_be_used(config: dict[str, Any], message: str) -> None:
    base = {"import": f"{__name__}:Listed"} | ({} if "import" in config else {"arguments": {"form": "array and int"}})
    with pytest.raises(ValueError, match=message) as caught:
        load(DataSpec.from_config(base | config))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.")
