"""`reluscope count` on files: the counts of `count_patterns`, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from reluscope import build_network, cli, count_patterns, open_counts
from reluscope.checkpoint_files import loading, manifest
from reluscope.counts import writer

NETWORK = """
from torch import nn

def small(width=4):
    first = [nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(16 * width, 3), nn.GELU())

class Late(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(36, 2), nn.ReLU())

    def forward(self, images):
        if len(images) == 5:
            raise IndexError("too late")
        return super().forward(images)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, images of two classes, and checkpoints at the steps 0 and 20; it is the working one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "count_network.py").write_text(NETWORK)
    images = np.random.default_rng(0).normal(size=(11, 1, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(11) % 2)
    (tmp_path / "saved").mkdir()
    for step in (0, 20):
        torch.manual_seed(step)
        state = build_network("count_network:small", arguments={"width": 5}).state_dict()
        torch.save({"model": state, "global_step": step + 1}, f"saved/epoch_{step}.pt")
    return tmp_path


COUNT = ["count", "--network", "count_network:small", "--argument", "width=5", "--data", "images.npz"]


def test_what_a_folder_of_images_leaves_out_is_told_before_the_count(folder: Path, capsys) -> None:
    for number, name in enumerate(("a/1.png", "a/more/2.png", "b/3.png", "loose.png")):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 6), number).save(folder / "photos" / name)
    (folder / "photos/a/notes.txt").touch()
    count = [*COUNT[:-1], "photos", "--output", "counts.zarr", "saved/epoch_0.pt"]
    assert cli.main(count) == 0
    assert capsys.readouterr().err.splitlines()[:3] == [
        "data.path: 1 images lie in folders inside the class folders, such as 'photos/a/more/2.png', and belong to the "
        "class, as in torchvision's ImageFolder",
        "data.path: 1 images outside of the class folders are left out, such as 'photos/loose.png'",
        "data.path: 1 files that are no images by their names are left out: 1 with .txt",
    ]
    assert open_counts("counts.zarr").num_positions[0] == 3 * 4 * 4  # of three images


def test_it_counts_what_count_patterns_counts(folder: Path) -> None:
    more = [
        "--batch-size",
        "4",
        "--labels",
        "true",
        "--signs",
        "--include",
        "2",
        "--include",
        "5",
        "--output",
        "counts.zarr",
    ]
    assert cli.main([*COUNT, *more, "saved/epoch_0.pt", "saved/epoch_20.pt"]) == 0
    store = open_counts("counts.zarr")
    assert store.steps.tolist() == [0, 20]
    assert store.layer_names == ["2", "5"]
    network = build_network("count_network:small", arguments={"width": 5})
    data = np.load("images.npz")
    images, labels = torch.from_numpy(data["images"]), data["labels"]
    for index, step in enumerate(store.steps):
        network.load_state_dict(torch.load(f"saved/epoch_{step}.pt", weights_only=True)["model"])
        for layer, expected in enumerate(count_patterns(network, images, 4, signs=True, labels=labels, engine="numpy")):
            for label in range(2):
                found = store.at(index, layer, classes=True).of_class(label)
                np.testing.assert_array_equal(found.keys, expected.of_class(label).keys)
                np.testing.assert_array_equal(found.counts, expected.of_class(label).counts)
    assert (folder / "counts.manifest.csv").read_text().count("saved/epoch_") == 2


@pytest.mark.filterwarnings("default:step 20")
def test_nan_is_said_in_one_line_for_each_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At step 20 a weight is NaN; at step 0 none is."""
    state = torch.load("saved/epoch_20.pt", weights_only=True)
    state["model"]["0.weight"][1, 0, 0, 0] = torch.nan
    torch.save(state, "saved/epoch_20.pt")
    assert cli.main([*COUNT, "--output", "a.zarr", "saved"]) == 0
    said = capsys.readouterr().err.splitlines()
    of_one_channel = 11 * 4 * 4
    assert said == [
        f"step 20: pre-activations are NaN in layer 2 ({of_one_channel}): their bits are 0, and say nothing of the "
        "network"
    ]
    assert open_counts("a.zarr").num_nan.tolist() == [[0], [of_one_channel]]


def test_a_folder_and_steps_from_the_files(folder: Path) -> None:
    assert cli.main([*COUNT, "--step-field", "global_step", "--output", "a.zarr", "saved"]) == 0
    assert open_counts("a.zarr").steps.tolist() == [1, 21]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--output", "a", "saved"], "--output: expected a name that ends in .zarr, but got a"),
        (["--output", "images.zarr", "saved"], "images.zarr is there already"),
        (["--output", "a.zarr", "nothing/*.pt"], "nothing/*.pt"),
        (["--output", "a.zarr", "--step", "x(\\d+)", "saved"], "have no step by 'x(\\\\d+)'"),
        (["--output", "a.zarr", "--data", "no.npz", "saved"], "--data: expected a path, package.module:function"),
        (["--output", "a.zarr", "--argument", "width", "saved"], "--argument: expected NAME=VALUE"),
        (["--output", "a.zarr", "--argument", "width=9", "saved"], "0.weight"),
        (["--output", "a.zarr", "--network", "count_network:big", "saved"], "count_network has no 'big'"),
        (["--output", "a.zarr", "--include", "nine", "saved"], "nine"),
        (["--output", "a.zarr", "--labels", "true", "--sample", "1/4", "saved"], "does not go with counting.sample"),
        (["--output", "a.zarr", "--network", "resnet8", "--argument", "depht=8", "saved"], "a key of network: unknown"),
        (
            ["--output", "a.zarr", "--network", "count_network:Late", "--batch-size", "6", "late"],
            "network count_network:Late: a forward pass raised IndexError: too late",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "images.zarr").mkdir()
    (folder / "late").mkdir()
    torch.save({"1.weight": torch.zeros(2, 36), "1.bias": torch.zeros(2)}, "late/1.pt")
    assert cli.main([*COUNT, *arguments]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    lines = [line for line in printed.splitlines() if not line.startswith("taken for steps: ")]
    assert len(lines) == 1
    assert not (folder / "a.zarr").exists()


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_in_zarr_are_told_from_a_folder_of_images(folder: Path, version: int) -> None:
    given = np.load("images.npz")
    group = zarr.open_group(str(folder / "data"), mode="w", zarr_format=version)
    for name in ("images", "labels"):
        group[name] = given[name]
    for data, store in (("images.npz", "a.zarr"), ("data", "b.zarr")):
        assert cli.main([*COUNT, "--data", data, "--output", store, "saved"]) == 0
    np.testing.assert_array_equal(open_counts("a.zarr").at(0, 0).counts, open_counts("b.zarr").at(0, 0).counts)


@pytest.mark.parametrize(("flag", "value"), [("--threads", "0"), ("--threads", "-2"), ("--batch-size", "1.5")])
def test_a_number_that_is_none_is_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*COUNT, flag, value, "--output", "a.zarr", "saved"])
    assert stopped.value.code == 2
    assert f"{flag}: expected a whole number of at least 1, but got '{value}'" in capsys.readouterr().err


def test_a_count_that_goes_on_reads_no_file_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SAVE_SECONDS", -1.0)
    state = torch.load("saved/epoch_20.pt", weights_only=True)
    torch.save({**state, "global_step": 41}, "saved/epoch_40.pt")
    load = loading.load_state

    def killed(file: str, network: torch.nn.Module) -> list[str]:
        if "40" in file:
            raise KeyboardInterrupt
        return load(file, network)

    command = [*COUNT, "--output", "a.zarr", "saved"]
    monkeypatch.setattr(loading, "load_state", killed)
    assert cli.main(command) != 0
    monkeypatch.setattr(loading, "load_state", load)
    before = (folder / "a.manifest.csv").stat()
    read: list[str] = []
    digest = manifest.digest
    for module in (manifest, loading):
        monkeypatch.setattr(module, "digest", lambda file: read.append(file) or digest(file))
    assert cli.main(command) == 0
    assert read == ["saved/epoch_40.pt"]  # as it is loaded
    assert (folder / "a.manifest.csv").stat() == before
    assert open_counts("a.zarr").steps.tolist() == [0, 20, 40]
    assert not (folder / "results").exists()


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    command = [*COUNT, "saved", "--output"]
    assert cli.main([*command, "a.zarr"]) == 0
    torch.save(torch.load("saved/epoch_0.pt", weights_only=True), "saved/epoch_20.pt")
    (folder / "a.zarr").rename("before.zarr")
    assert cli.main([*command, "a.zarr"]) == 0
    before, after = open_counts("before.zarr"), open_counts("a.zarr")
    np.testing.assert_array_equal(after.at(1, 0).keys, after.at(0, 0).keys)
    assert before.attributes["sha256"][0] == after.attributes["sha256"][0]
    assert before.attributes["sha256"][1] != after.attributes["sha256"][1]


def test_what_is_no_checkpoint_is_told_before_anything_is_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n"
    (folder / "saved/epoch_40.pt").write_text(pointer)
    assert cli.main([*COUNT, "--output", "a.zarr", "saved"]) == 2
    printed = capsys.readouterr().err
    assert printed == (
        "reluscope count: runs.a: saved/epoch_40.pt: this is Git LFS's pointer to the file of 46,830,571 bytes, not "
        "the file; fetch it with git lfs pull\n"
    )
