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

pytestmark = pytest.mark.filterwarnings("default::reluscope.preactivations.warned.CountingWarning")  # of the GELU

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
    said = [line for line in capsys.readouterr().err.splitlines() if "NaN" in line]
    of_one_channel = 11 * 4 * 4
    assert said == [
        f"reluscope count: step 20: pre-activations are NaN in layer 2 ({of_one_channel}): their bits are 0, and say "
        "nothing of the network"
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


def test_more_threads_than_a_machine_can_start_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*COUNT, "--threads", "100000", "--output", "a.zarr", "saved"])
    assert stopped.value.code == 2
    assert "--threads: expected at most 1024, but got 100000" in capsys.readouterr().err


def test_a_network_with_lazy_modules_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("lazy.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3), nn.ReLU())\n"
    )
    data = ["--network", "lazy:build", "--data", "images.npz"]
    for command in (["count", *data, "--output", "a.zarr", "saved"], ["layers", *data]):
        assert cli.main(command) == 2
        assert "import lazy:build: the network's 1.weight has no shape yet (a lazy module); pass a batch" in (
            capsys.readouterr().err
        )


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
    before = (folder / "a.manifest.csv").stat()  # but for when it was last read
    read: list[str] = []
    digest = manifest.digest
    for module in (manifest, loading):
        monkeypatch.setattr(module, "digest", lambda file: read.append(file) or digest(file))
    assert cli.main(command) == 0
    assert read == ["saved/epoch_40.pt"]  # as it is loaded
    after = (folder / "a.manifest.csv").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
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


@pytest.mark.parametrize("labels", ["none", "negative", "floats", "a column"])
def test_a_network_of_ours_is_counted_whatever_labels_the_images_have(folder: Path, labels: str) -> None:
    """Its classes are those of the checkpoint: three, where the data would say two or none."""
    images = np.random.default_rng(1).normal(size=(10, 2, 8, 8)).astype(np.float32)
    given = {"negative": -np.ones(10, int), "floats": np.ones(10), "a column": np.zeros((10, 1), int)}
    np.savez("ours.npz", images=images, **({"labels": given[labels]} if labels in given else {}))
    torch.manual_seed(3)
    network = build_network("resnet8", in_channels=2, num_classes=3, widths=[4, 4, 4])
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, "saved/ours_7.pt")
    ours = ["count", "--network", "resnet8", "--argument", "widths=[4,4,4]", "--data", "ours.npz", "--batch-size", "5"]
    assert cli.main([*ours, "--output", "ours.zarr", "saved/ours_7.pt"]) == 0
    store = open_counts("ours.zarr")
    for layer, expected in enumerate(count_patterns(network, torch.from_numpy(images), 5)):
        np.testing.assert_array_equal(store.at(0, layer).keys, expected.keys)
        np.testing.assert_array_equal(store.at(0, layer).counts, expected.counts)
    assert cli.main([*ours, "--labels", "true", "--output", "classes.zarr", "saved/ours_7.pt"]) == 2
    assert not Path("classes.zarr").exists()


LINE = (
    "'5 (GELU)': it is not piecewise linear; signs=True (--signs, layers: {signs: true}) counts the sign of its input"
)


def test_what_is_not_counted_is_told_in_one_line_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*COUNT, "--output", "a.zarr", "saved"]) == 0
    printed = capsys.readouterr().err
    assert [line for line in printed.splitlines() if "not counted" in line] == [
        f"reluscope count: 1 of 2 activations are not counted ({LINE}); reluscope.layers lists them all, and exclude "
        "silences what it names"
    ]
    reason = LINE.partition(": ")[2]
    assert open_counts("a.zarr").not_counted == [{"name": "5", "operation": "GELU", "reason": reason}]
    assert cli.main(["info", "a.zarr"]) == 0
    assert f"  not counted: 5 (GELU): {reason}" in capsys.readouterr().out
    assert cli.main([*COUNT, "--exclude", "5", "--output", "b.zarr", "saved"]) == 0
    assert "not counted" not in capsys.readouterr().err
    assert open_counts("b.zarr").not_counted == []


@pytest.mark.parametrize("command", [["layers"], ["count", "--list"]])
def test_layers_are_listed_without_checkpoints(
    command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, *COUNT[1:]]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "counted: 1",
        "  2: input of ReLU > 0, 5 channels, 4 x 4 positions",
        "not counted: 1",
        f"  {LINE.replace(chr(39), '')}",
    ]
    assert cli.main([*command, *COUNT[1:], "--signs", "--exclude", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "counted: 1",
        "  5: sign of the input of GELU, 3 channels, 1 x 1 positions",
        "not counted: 1",
        "  2 (ReLU): include or exclude leave it out",
    ]
    assert cli.main([*command, *COUNT[1:], "--exclude", "no"]) == 2
    assert "exclude: 'no' matches no layer; there are 2; with signs=True also 5 (GELU)" in capsys.readouterr().err


def test_a_count_needs_checkpoints_and_a_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, missing in (([], "CHECKPOINTS"), (["saved"], "--output")):
        assert cli.main([*COUNT, *given]) == 2
        assert capsys.readouterr().err == f"reluscope count: the following arguments are required: {missing}\n"


@pytest.mark.filterwarnings("always::reluscope.preactivations.warned.CountingWarning")
def test_what_a_count_says_is_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = (
        "import torch\nfrom torch import nn\nclass Drops(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(36, 2), nn.ReLU())\n"
        "    def forward(self, x):\n        return super().forward(torch.dropout(x, 0.5, True))\n"
    )
    (folder / "drops_network.py").write_text(network)
    torch.manual_seed(0)
    for step in (1, 2):
        torch.save(build_network("drops_network:Drops").state_dict(), f"saved/drops_{step}.pt")
    drops = ["count", "--network", "drops_network:Drops", "--data", "images.npz", "--output", "drops.zarr"]
    assert cli.main([*drops, "saved/drops_1.pt", "saved/drops_2.pt"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "draws" in line]
    assert said == [
        "reluscope count: the forward pass draws random numbers, in 'Drops': the counts are those of one draw, and "
        "others of another"
    ]
