"""Which files are checkpoints, and of which step; what is refused, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reluscope.checkpoint_files.finding import find_files


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
    found = find_files("ck", None, no_field)
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


def test_names_say_the_step_with_its_suffix() -> None:
    make("ck/model_1k.pt", "ck/model_20k.ckpt", "ck/model_500.pth.tar", "ck/training_args.bin")
    assert [step for step, _ in find_files("ck", None, no_field)] == [500, 1_000, 20_000]
    make("hf/checkpoint-500/pytorch_model.bin", "hf/checkpoint-1000/pytorch_model.bin")
    assert [step for step, _ in find_files("hf/*/pytorch_model.bin", None, no_field)] == [500, 1000]


def test_an_expression_takes_numbers_with_their_suffix() -> None:
    make("a_1k_x2.pt", "a_1e4_x2.pt", "a_0020_x2.pt")
    assert [step for step, _ in find_files("*.pt", r"a_(\w+)_x", no_field)] == [20, 1_000, 10_000]
    assert [step for step, _ in find_files("a_0*", r"a_0*(\d+)", no_field)] == [20]  # zeros may stay outside


@pytest.mark.parametrize(
    ("files", "step", "message"),
    [
        ("nowhere", None, r"checkpoints\.files: no \.pt, \.pth, \.pth\.tar, \.ckpt, \.safetensors file at 'nowhere'"),
        ("ck/*", None, r"expected \.pt, .*, \.safetensors, \.bin, but 'ck/\*' has ck/notes1\.txt"),
        (
            "ck",
            None,
            r"step: not clear from the name of ck/best\.pt \(no number\), ck/best_0\.93\.pt \(0\.93\), ck/dated_20\S+ "
            r"\(20261126010203123456\); write an expression with one group, as in epoch_\(\\d\+\), or name",
        ),
        ("ck", r"epoch_\d+", r"expected one group, as in epoch_\(\\d\+\), but 'epoch_\\\\d\+' has 0"),
        ("ck", r"epoch_(\d+", "is no regular expression"),
        ("ck/e*", r"epoch_(0)", r"takes 0 out of 01 in ck/epoch_01\.pt; let its group take all"),
        ("deep/*k.pt", r"step_(\d+)", r"takes 10 out of 10k in deep/step_10k\.pt"),
        ("deep/*12.pt", r"step.*(\d+)", r"takes 2 out of 12 in deep/step_12\.pt"),
        ("deep/*1e3.pt", r"step_(\d+)", r"takes 1 out of 1e3 in deep/step_1e3\.pt"),
        ("*/*_01.pt", None, r"two files for step 1: ck/epoch_01\.pt and deep/epoch_01\.pt; one must go"),
        ("mixed", None, r"7 in mixed/epoch_7\.pt stands beside a word for epochs and 50 in mixed/iter_50\.pt stands"),
        ("ck", r"(\w+)_", r"have no step"),
        ("ck/epoch_0*", r"e(p)", r"ck/epoch_01\.pt, ck/epoch_02\.pt, ck/epoch_03\.pt and 1 more have no step"),
        ("deep/step_-1.pt", None, r"not clear from the name of deep/step_-1\.pt \(-1\)"),
        ("deep/ck_3_1200.pt", None, r"not clear from the name of deep/ck_3_1200\.pt \(3 or 1200\)"),
        ("ck/dated*", r"dated_(\d+)", r"ck/dated_20261126010203123456\.pt have no step by"),
    ],
)
def test_refused_in_one_line(files: str, step: str | None, message: str) -> None:
    make("ck/epoch_01.pt", "ck/epoch_02.pt", "ck/epoch_03.pt", "ck/epoch_04.pt", "ck/best.pt", "ck/notes1.txt")
    make(
        "ck/dated_20261126010203123456.pt", "ck/best_0.93.pt", "deep/step_10k.pt", "deep/step_12.pt", "deep/step_1e3.pt"
    )
    make("deep/epoch_01.pt", "deep/step_-1.pt", "deep/ck_3_1200.pt", "mixed/epoch_7.pt", "mixed/iter_50.pt")
    with pytest.raises(ValueError, match=message) as error:
        find_files(files, step, no_field)
    assert "\n" not in str(error.value)


def test_a_link_to_nothing_is_no_checkpoint_that_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "step_1.pt").touch()
    (tmp_path / "step_2.pt").symlink_to(".git/annex/objects/nowhere")
    for files in (str(tmp_path), str(tmp_path / "*.pt")):
        with pytest.raises(ValueError, match=r"step_2\.pt is a link to nothing; fetch what is missing"):
            find_files(files, None, no_field)
    (tmp_path / ".git/annex/objects").mkdir(parents=True)
    (tmp_path / ".git/annex/objects/nowhere").touch()
    assert [found.step for found in find_files(str(tmp_path), None, no_field)] == [1, 2]
