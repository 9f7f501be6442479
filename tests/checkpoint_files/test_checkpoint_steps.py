"""The step that a file's name says: names as other software writes them; what is not clear is never guessed."""

from __future__ import annotations

import string

import pytest

from reluscope.checkpoint_files.steps import ALONE, EPOCH, STEP, number_around, read_step, whole_number

CLEAR = {
    # Lightning
    "epoch=3-step=1200.ckpt": (1200, STEP),
    "epoch=3-step=1200-v1.ckpt": (1200, STEP),
    "epoch=9-v2.ckpt": (9, EPOCH),
    "sample-mnist-epoch=02-val_loss=0.32.ckpt": (2, EPOCH),
    "N-Step-Checkpoint_epoch=3_global_step=1200.ckpt": (1200, STEP),
    "megatron_gpt--val_loss=3.21-step=1000-consumed_samples=256000.0.ckpt": (1000, STEP),
    # language models
    "checkpoint-500/model.safetensors": (500, ALONE),
    "checkpoint-500/pytorch_model.bin": (500, ALONE),
    "step1000/model.safetensors": (1000, STEP),
    "pythia-70m-step3000.pt": (3000, STEP),
    "step1000-tokens4B.pt": (1000, STEP),
    "step1000-tokens4B/model.safetensors": (1000, STEP),
    "step-001000-2BT.pt": (1000, STEP),
    "stage2-ingredient1-step5000-tokens21B.pt": (5000, STEP),
    "step1000-unsharded/model.pt": (1000, STEP),
    "global_step1000/mp_rank_00_model_states.pt": (1000, STEP),
    "ep5-ba1000-rank0.pt": (1000, STEP),
    "ckpt_1000.pt": (1000, ALONE),
    "checkpoint3.pt": (3, ALONE),
    # vision
    "checkpoint-12.pth.tar": (12, ALONE),
    "checkpoint_0200.pth.tar": (200, ALONE),
    "checkpoint0040.pth": (40, ALONE),
    "epoch_12.pth": (12, EPOCH),
    "iter_0005000.pth": (5000, STEP),
    "model_0004999.pth": (4999, ALONE),
    "network-snapshot-025000.pt": (25_000, ALONE),
    "ema_0.9999_050000.pt": (50_000, ALONE),
    "model050000.pt": (50_000, ALONE),
    "10_net_G.pth": (10, ALONE),
    "epoch50.pt": (50, EPOCH),
    # speech, reinforcement
    "50epoch.pth": (50, EPOCH),
    "snapshot.ep.10.pt": (10, EPOCH),
    "G_10000.pth": (10_000, ALONE),
    "10.pt": (10, ALONE),
    "model_step_10000.pt": (10_000, STEP),
    "rl_model_10000_steps.pt": (10_000, STEP),
    # suffixes, padding, and what else stands in names
    "model_10k.pt": (10_000, ALONE),
    "model_1M.pt": (1_000_000, ALONE),
    "ckpt_1e3.pt": (1000, ALONE),
    "ckpt_2.5e4.pt": (25_000, ALONE),
    "ckpt_1.5k.pt": (1500, ALONE),
    "step_1B.pt": (1_000_000_000, STEP),
    "step_1,000.pt": (1000, STEP),
    "step=00000100.pt": (100, STEP),
    "step-1.pt": (1, STEP),
    "step0.pt": (0, STEP),
    "10ksteps.pt": (10_000, STEP),
    "100k_iters.pt": (100_000, STEP),
    "3epochs_1000steps.pt": (1000, STEP),
    "10epochs_5.pt": (10, EPOCH),
    "step_100_epoch_3.pt": (100, STEP),
    "resnet_20_step_500.pt": (500, STEP),
    "resnet20_100.pt": (100, ALONE),
    "cifar10_resnet20_500.pt": (500, ALONE),
    "v2_epoch_10.pt": (10, EPOCH),
    "seed_0_step_100.pt": (100, STEP),
    "model_epoch_010_val_0.123.pt": (10, EPOCH),
    "model_10_loss_0.5.pt": (10, ALONE),
    "weights.05-0.31.pt": (5, ALONE),
    "lr1e-3_12.pt": (12, ALONE),
    "20261126_500.pt": (500, ALONE),
    "globalStep100.pt": (100, STEP),
    "STEP100.pt": (100, STEP),
    "Epoch 10.pt": (10, EPOCH),
    "it500.pt": (500, STEP),
    "e5.pt": (5, EPOCH),
}

NOT_CLEAR = {
    "checkpoint_3_1200.pt": ("3", "1200"),  # fairseq: epoch and update, which nothing says
    "N-Step-Checkpoint_3_1200.ckpt": ("3", "1200"),
    "step_5-step_7.pt": ("5", "7"),
    "1000_steps_3.pt": ("1000", "3"),
    "step_-1.pt": ("-1",),
    "step=-1.pt": ("-1",),
    "model_-1.pt": ("-1",),
    "step_1.5.pt": ("1.5",),
    "step_1_000.pt": ("1_000",),
    "step_12_500.pt": ("12_500",),
    "step5b.pt": ("5b",),
    "step20261126010203123456.pt": ("20261126010203123456",),
    "20261126.pt": ("20261126",),
    "best_0.93.pt": ("0.93",),
    "seed_0.pt": ("0",),
    "fold3.pt": ("3",),
    "latest-rank0.pt": ("0",),
    "opt050000.pt": ("050000",),
    "resnet50.pt": ("50",),
    "ResNet20.pt": ("20",),
    "yolov5s.pt": ("5",),
    "pythia-70m.pt": ("70m",),
    "resnet50-11ad3fa6.pth": ("50", "11", "3", "6"),
    "model (1).pt": ("1",),
    "model-00001-of-00002.safetensors": ("00001", "00002"),
    "last.ckpt": (),
    "checkpoint_best.pt": (),
    "ckpt.pt": (),
    "model_final.pth": (),
    "run7/best.pt": (),  # a folder's number beside another word
}


@pytest.mark.parametrize("name", CLEAR)
def test_a_step_with_its_suffix(name: str) -> None:
    read = read_step(f"folder9/{name}" if "/" not in name else name)
    assert (read.step, read.counts) == CLEAR[name]


@pytest.mark.parametrize("name", NOT_CLEAR)
def test_what_is_not_clear_shows_its_candidates(name: str) -> None:
    read = read_step(name)
    assert read.step is None
    assert read.candidates == NOT_CLEAR[name]


@pytest.mark.parametrize("step", [0, 7, 10, 999, 1000, 123_456, (1 << 62) - 1])
@pytest.mark.parametrize(
    "template", ["step_{}", "step{:012d}-final", "x{}y_iteration-{}", "epoch{}", "checkpoint-{}", "{}", "{}steps"]
)
def test_what_is_written_is_read(template: str, step: int) -> None:
    assert read_step(template.format(*[step] * template.count("{")) + ".pt").step == step


def test_whatever_the_name_a_step_is_one_of_its_numbers() -> None:
    """Over many made-up names: what is read is a number that is written there, or there is none."""
    pieces = ["step", "epoch", "v", "_", "-", ".", "12", "0", "3.5", "1e3", "10k", "(", "x", "B", "seed", "=", "007"]
    state = 1
    for _ in range(5_000):
        name = ""
        for _ in range(6):
            state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
            name += pieces[(state >> 8) % len(pieces)]
        read = read_step(f"{name}.pt")
        if read.step is not None:
            assert read.candidates[0].lstrip(string.ascii_letters) in name
            assert whole_number(read.candidates[0]) == read.step


WHOLE = {"0100": 100, "10k": 10_000, "1e3": 1000, "1.5M": 1_500_000, "1.5": None, "-1": None, "ten": None, "": None}


@pytest.mark.parametrize(
    ("text", "number"), {**WHOLE, "1e-3": None, "1e999999999": None, "٣": None, "1.2.3k": None}.items()
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "piece", "whole"),
    [
        ("step_10k", "10", "10k"),
        ("a_123_4", "3", "123"),
        ("ckpt.5.2026", "5", "5"),
        ("1.5k", "1", "1.5k"),
        ("x7", "7", "7"),
    ],
)
def test_a_piece_of_a_number(text: str, piece: str, whole: str) -> None:
    start = text.index(piece)
    assert number_around(text, start, start + len(piece)) == whole
