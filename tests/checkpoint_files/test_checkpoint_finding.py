"""Which files are checkpoints, and of which step; what is refused, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reluscope.checkpoint_files.finding import LAST_NUMBER, find_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def no_field(file: str, key: str) -> int:
    raise AssertionError("the name says the step")


def test_a_folders_checkpoints_come_by_step_and_other_files_are_left() -> None:
    make("ck/v2_epoch_10.pt", "ck/v2_epoch_9.pth", "ck/v2_epoch_100.safetensors", "ck/log7.txt", "ck/deeper/e5.pt")
    found = find_files("ck", LAST_NUMBER, no_field)
    assert found == [(9, "ck/v2_epoch_9.pth"), (10, "ck/v2_epoch_10.pt"), (100, "ck/v2_epoch_100.safetensors")]


def test_an_expression_finds_the_step_in_the_name_or_else_in_the_path() -> None:
    make("run7/step_5_loss_0.25.pt", "run7/step_20_loss_0.11.pt")
    assert [step for step, _ in find_files("run7/*.pt", r"step_(\d+)", no_field)] == [5, 20]
    make("hf/checkpoint-500/model.safetensors", "hf/checkpoint-1000/model.safetensors")
    found = find_files("hf/**/*.safetensors", r"checkpoint-(\d+)", no_field)
    assert [step for step, _ in found] == [500, 1000]


def test_a_field_says_the_step() -> None:
    make("a.pt", "b.pt")
    found = find_files("*.pt", {"field": "at"}, lambda file, key: {"a.pt": 8, "b.pt": 3}[file] if key == "at" else -1)
    assert found == [(3, "b.pt"), (8, "a.pt")]


@pytest.mark.parametrize(
    ("files", "step", "message"),
    [
        ("nowhere", LAST_NUMBER, r"checkpoints\.files: no \.pt, \.pth, \.safetensors file at 'nowhere'"),
        ("ck/*", LAST_NUMBER, r"expected \.pt, \.pth, \.safetensors, but 'ck/\*' has ck/notes1\.txt"),
        ("ck", LAST_NUMBER, r"ck/best\.pt, ck/best_0\.93\.pt have no step by the last number in their names"),
        ("ck", r"epoch_\d+", r"expected one group, as in epoch_\(\\d\+\), but 'epoch_\\\\d\+' has 0"),
        ("ck", r"epoch_(\d+", "is no regular expression"),
        ("ck/e*", r"epoch_(0)", r"two files for step 0: ck/epoch_01\.pt and ck/epoch_02\.pt"),
        ("ck", r"(\w+)_", r"have no step"),
        ("ck/epoch_0*", r"e(p)", r"ck/epoch_01\.pt, ck/epoch_02\.pt, ck/epoch_03\.pt and 1 more have no step"),
        (
            "ck/best_*",
            LAST_NUMBER,
            r"ck/best_0\.93\.pt have no step",
        ),
        (
            "ck/dated*",
            LAST_NUMBER,
            r"ck/dated_20261126010203123456\.pt has 20261126010203123456, which is no number of",
        ),
    ],
)
def test_refused_in_one_line(files: str, step: str, message: str) -> None:
    make("ck/epoch_01.pt", "ck/epoch_02.pt", "ck/epoch_03.pt", "ck/epoch_04.pt", "ck/best.pt", "ck/notes1.txt")
    make("ck/dated_20261126010203123456.pt", "ck/best_0.93.pt")
    with pytest.raises(ValueError, match=message) as error:
        find_files(files, step, no_field)
    assert "\n" not in str(error.value)
