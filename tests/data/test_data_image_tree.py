"""Which files an image folder offers, by layout; nothing is decoded, so the files here are empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from reluscope.data.image_tree import ImageTree, findings, scan_tree
from reluscope.data.spec import DataSpec, num_train_images, require_labels


def _make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_train_and_test_folders(tmp_path: Path) -> None:
    _make(tmp_path, "train/b/2.PNG", "train/b/10.jpg", "train/a/x.png", "test/a/y.png", "test/b/z.png")
    _make(tmp_path, "train/b/notes.txt", "train/b/._10.jpg", "train/.cache/a.png", "README.md")  # not images
    train = [(tmp_path / "train/a/x.png", 0), (tmp_path / "train/b/10.jpg", 1), (tmp_path / "train/b/2.PNG", 1)]
    test = [(tmp_path / "test/a/y.png", 0), (tmp_path / "test/b/z.png", 1)]
    assert scan_tree(tmp_path) == ImageTree(("a", "b"), train, test)


def test_val_is_a_test_folder_unless_there_is_test(tmp_path: Path) -> None:
    _make(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    assert scan_tree(tmp_path).test == [(tmp_path / "val/a/1.png", 0), (tmp_path / "val/b/1.png", 1)]
    _make(tmp_path, "test/a/1.png", "test/b/1.png")
    assert scan_tree(tmp_path).test == [(tmp_path / "test/a/1.png", 0), (tmp_path / "test/b/1.png", 1)]


def test_class_folders_alone_have_no_test_set(tmp_path: Path) -> None:
    _make(tmp_path, "bus/1.png", "train/1.png")  # a class may be called train
    assert scan_tree(tmp_path) == ImageTree(
        ("bus", "train"), [(tmp_path / "bus/1.png", 0), (tmp_path / "train/1.png", 1)], None
    )


def test_images_outside_of_any_folder_have_no_labels(tmp_path: Path) -> None:
    _make(tmp_path, "2.png", "10.JPG", "notes.txt")
    assert scan_tree(tmp_path) == ImageTree((), [(tmp_path / "10.JPG", 0), (tmp_path / "2.png", 0)], None)
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(tmp_path)})
    assert num_train_images(spec) == 2
    with pytest.raises(
        ValueError, match=r"^data: expected labels to train on, one folder of images for each class, but"
    ):
        require_labels(spec)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no class folders in .*; expected <path>/train/<class>/<image>"),
        (["train/1.png", "test/1.png"], "no class folders in"),
        (["a/1.png"], "holds the single class 'a'; expected two or more"),
        (["a/1.png", "b/1.txt"], "no images in '.*/b'; expected files ending in .jpg"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "same classes in .* and 'test' but 'b' is in one only"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "val/c/1.png"], "but 'c' is in one only"),
    ],
)
def test_other_trees_are_refused_before_any_job(tmp_path: Path, files: list[str], message: str) -> None:
    spec = DataSpec.from_config({"name": "imagefolder", "path": str(_make(tmp_path, *files))})
    with pytest.raises(ValueError, match=f"data.path: .*{message}") as error:
        num_train_images(spec)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_folder() -> None:
    spec = DataSpec.from_config({"name": "imagefolder", "path": "no/such/tree"})
    with pytest.raises(FileNotFoundError, match=r"data.path: no folder 'no/such/tree'; expected <path>/train/<class>"):
        num_train_images(spec)


def test_number_of_training_images_is_counted(tmp_path: Path) -> None:
    path = str(_make(tmp_path, "train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/1.png", "test/b/1.png"))
    assert num_train_images(DataSpec.from_config({"name": "imagefolder", "path": path})) == 3
    assert num_train_images(DataSpec.from_config({"name": "imagefolder", "path": path, "images": 2})) == 2
    with pytest.raises(ValueError, match=r"data.images: expected at most 3, .* got 4"):
        num_train_images(DataSpec.from_config({"name": "imagefolder", "path": path, "images": 4}))


def test_folders_of_a_class_belong_to_it_in_torchvisions_order(tmp_path: Path) -> None:
    _make(tmp_path, "a/2.png", "a/day/1.png", "a/day/deep/3.png", "a/day-2/1.png", "a/.hidden/9.png", "b/x/y/z/1.jpg")
    (tmp_path / "b/link").symlink_to(tmp_path / "a/day/deep")
    tree = scan_tree(tmp_path)
    expected = ["a/2.png", "a/day/1.png", "a/day-2/1.png", "a/day/deep/3.png", "b/link/3.png", "b/x/y/z/1.jpg"]
    assert sorted(str(file.relative_to(tmp_path)) for file, _ in tree.train) == sorted(expected)
    assert [label for _, label in tree.train] == [0, 0, 0, 0, 1, 1]

    datasets = pytest.importorskip("reluscope.guarded_torchvision").torchvision.datasets
    found = datasets.ImageFolder(str(tmp_path), is_valid_file=lambda name: "/." not in name.removeprefix(str(tmp_path)))
    assert [(Path(file), label) for file, label in found.samples] == tree.train


def test_a_folder_that_a_link_puts_into_itself_is_refused(tmp_path: Path) -> None:
    _make(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b/again").symlink_to(tmp_path / "b")
    with pytest.raises(ValueError, match=r"^data.path: '.*/b/again' is a link to a folder that it lies in$"):
        scan_tree(tmp_path)


def test_what_is_nested_or_left_out_is_told(tmp_path: Path) -> None:
    _make(tmp_path, "train/a/1.png", "train/b/1.png", "train/b/old/2.png", "train/b/old/3.png")
    assert findings(tmp_path, scan_tree(tmp_path)) == [
        f"2 images lie in folders inside the class folders, such as '{tmp_path}/train/b/old/2.png', and belong to the "
        "class, as in torchvision's ImageFolder"
    ]
    (tmp_path / "train/b/old").rename(tmp_path / "spare")
    _make(tmp_path, "train/loose.png", "train/a/notes.txt", "train/a/1.avif", "train/a/2.AVIF", "LICENSE", ".git/x.png")
    assert findings(tmp_path, scan_tree(tmp_path)) == [
        f"3 images outside of the class folders are left out, such as '{tmp_path}/spare/2.png'",
        "4 files that are no images by their names are left out: 2 with .avif, 1 with no suffix, 1 with .txt",
    ]
    _make(tmp_path / "plain", "a/1.png", "b/1.png")
    assert findings(tmp_path / "plain", scan_tree(tmp_path / "plain")) == []
    _make(tmp_path / "flat", "1.png", "2.png")
    assert findings(tmp_path / "flat", scan_tree(tmp_path / "flat")) == []
