"""The config's `data` section: defaults, refusals, and what it costs to import."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from reluscope.data.spec import DATASETS, DataSpec, num_train_images


@pytest.mark.parametrize(
    ("config", "path", "flip", "crop_padding"),
    [
        ({"name": "digits"}, None, False, 1),
        ({"name": "cifar10"}, "data", True, 4),
        ({"name": "cifar100", "path": "elsewhere"}, "elsewhere", True, 4),
        ({"name": "imagefolder", "path": "tree"}, "tree", True, 4),
        ({"name": "digits", "augmentation": {"flip": True, "crop_padding": 0}}, None, True, 0),
        ({"name": "cifar10", "path": None, "augmentation": {"flip": False}}, "data", False, 4),
    ],
)
def test_defaults_depend_on_the_data_set(
    config: dict[str, Any], path: str | None, flip: bool, crop_padding: int
) -> None:
    assert DataSpec.from_config(config) == DataSpec(config["name"], path, None, None, flip, crop_padding)


@pytest.mark.parametrize("name", DATASETS)
def test_to_dict_survives_json_and_makes_the_same_spec(name: str) -> None:
    config: dict[str, Any] = {"name": name, "images": 20, "test_images": 10}
    where: dict[str, Any] = {"digits": {}, "import": {"import": "package.module:name", "arguments": {"root": "tree"}}}
    where = where.get(name, {"path": "tree"})
    spec = DataSpec.from_config(config | where)
    assert DataSpec.from_config(json.loads(json.dumps(spec.to_dict()))) == spec
    assert list(spec.to_dict()) == ["name", *(where or ["path"]), "images", "test_images", "augmentation"]


@pytest.mark.parametrize(
    "config",
    [
        {"name": "imagefolder", "path": "tree", "resize": [48, 32], "channels": 3},
        {"name": "arrays", "path": "images.npy", "layout": "channels_last"},
        {
            "name": "import",
            "import": "a.b:c",
            "arguments": {},
            "test_arguments": {"train": False},
            "layout": "channels_first",
        },
    ],
)
def test_keys_of_some_data_sets_are_kept_where_they_are_given(config: dict[str, Any]) -> None:
    spec = DataSpec.from_config(config)
    assert {key: value for key, value in spec.to_dict().items() if key in config} == config
    assert DataSpec.from_config(json.loads(json.dumps(spec.to_dict()))) == spec
    assert DataSpec.from_config(config | {"stream": True}).to_dict() == spec.to_dict()  # it changes no count


def test_import_alone_says_what_it_is() -> None:
    spec = DataSpec.from_config({"import": "a.b:c"})
    assert (spec.name, spec.import_path, spec.arguments, spec.flip, spec.crop_padding) == (
        "import",
        "a.b:c",
        {},
        False,
        0,
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "data: expected a mapping"),
        ({}, "data.name: unknown None; allowed are digits, cifar10, cifar100, imagefolder, arrays, import$"),
        ({"name": "cifar"}, "data.name: unknown 'cifar'; did you mean 'cifar10'"),
        ({"name": "digits", "image": 3}, "data: unknown key 'image'; did you mean 'images'"),
        ({"name": "digits", "images": 0}, "data.images: expected an integer of at least 1 but got 0"),
        ({"name": "digits", "images": True}, "data.images: expected an integer .* got True"),
        ({"name": "digits", "images": "many"}, "data.images: expected an integer .* got 'many'"),
        ({"name": "digits", "test_images": 1.5}, "data.test_images: expected an integer .* got 1.5"),
        ({"name": "digits", "path": "data"}, "data.path: expected none, .* got 'data'"),
        ({"name": "imagefolder"}, "data.path: expected the path .* imagefolder but got None"),
        ({"name": "cifar10", "path": 3}, "data.path: expected the path .* got 3"),
        ({"name": "arrays"}, "data.path: expected the path of a .npz, .npy or Zarr store but got None"),
        (
            {"name": "digits", "resize": [8, 8]},
            r"data.resize: expected none, it goes with imagefolder, not digits, but got \[8, 8\]",
        ),
        ({"name": "cifar10", "import": "a:b"}, "data.import: expected none, it goes with import, not cifar10"),
        ({"import": "a.b"}, "data.import: expected package.module:name"),
        ({"import": "a:b", "arguments": [1]}, r"data.arguments: expected a mapping of names .* got \[1\]"),
        ({"name": "imagefolder", "path": "x", "resize": 8}, r"data.resize: expected \[height, width\] .* got 8"),
        ({"name": "imagefolder", "path": "x", "resize": [8, 0]}, "data.resize: expected an integer of at least 1 .* 0"),
        ({"name": "imagefolder", "path": "x", "channels": 4}, "data.channels: unknown 4; allowed are 1, 3"),
        (
            {"name": "arrays", "path": "x.npy", "layout": "nchw"},
            "data.layout: unknown 'nchw'; .* channels_first, channels",
        ),
        ({"name": "arrays", "path": "x.npy", "stream": 1}, "data.stream: expected true or false but got 1"),
        ({"name": "arrays", "path": "x.npz", "stream": True}, "data.stream: expected false, parts of the .npz 'x.npz'"),
        ({"name": "digits", "augmentation": True}, "data.augmentation: expected a mapping .* got True"),
        (
            {"name": "digits", "augmentation": {"flips": True}},
            "data.augmentation: unknown key 'flips'; did you mean 'flip'",
        ),
        ({"name": "digits", "augmentation": {"flip": 1}}, "data.augmentation.flip: expected true or false but got 1"),
        (
            {"name": "digits", "augmentation": {"crop_padding": -1}},
            "data.augmentation.crop_padding: expected an integer of at least 0 but got -1",
        ),
    ],
)
def test_bad_config_is_refused_by_key_path(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        DataSpec.from_config(config)
    assert "\n" not in str(error.value)


def test_number_of_training_images() -> None:
    assert num_train_images(DataSpec.from_config({"name": "digits"})) == 1_500
    assert num_train_images(DataSpec.from_config({"name": "cifar100"})) == 50_000
    assert num_train_images(DataSpec.from_config({"name": "cifar10", "images": 640})) == 640
    with pytest.raises(ValueError, match=r"data.images: expected at most 1500.* got 1501"):
        num_train_images(DataSpec.from_config({"name": "digits", "images": 1501}))


def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    spec = DataSpec.from_config({"name": "cifar10", "path": "~/data"})
    assert str(spec.folder) == "/home/someone/data"
    with pytest.raises(ValueError, match=r"data.path: digits has none"):
        _ = DataSpec.from_config({"name": "digits"}).folder


def test_the_config_is_checked_without_torch() -> None:
    code = (
        "import sys; from reluscope.data import DataSpec, num_train_images;"
        "num_train_images(DataSpec.from_config({'name': 'digits'}));"
        "sys.exit(str([m for m in ('torch', 'torchvision', 'sklearn', 'PIL') if m in sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == "[]"
