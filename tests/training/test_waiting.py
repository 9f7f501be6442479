"""A training whose steps are gathered on its device: no step waits, and the bits are those of one that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reluscope.checkpoints import open_weights
from reluscope.checkpoints import writer as writer_module
from reluscope.data import augment
from reluscope.data.moving import moved
from reluscope.data.spec import DataSpec
from reluscope.stages.devices import prepare
from reluscope.training import loop
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="waiting for a device: no NVIDIA GPU here")


def train(folder: Path, device: str = "cpu", **numbers) -> None:
    """30 updates: batches of 40, 40 and 20, augmented, dumped in blocks of 4 steps."""
    data = {"name": "digits", "images": 100, "test_images": 50, "augmentation": {"crop_padding": 1, "flip": True}}
    method = method_from_config("cyclic", {"epochs": 10, "batch_size": 40, **numbers})
    spec = TrainingSpec({"name": "resnet8"}, DataSpec.from_config(data), method, 0)
    loop.train(spec, folder / "weights.partial", folder / "weights.zarr", device=device)


@pytest.fixture(autouse=True)
def _blocks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)


def within_steps(monkeypatch: pytest.MonkeyPatch, switch: Callable[[bool], None]) -> None:
    """Call `switch` with whether the training is in a step, from the third on, without test accuracy or printing."""
    batches = loop._batches

    def switching(spec, timeline, done, device):
        for step, index in batches(spec, timeline, done, device):
            switch(step > done + 2 and step % timeline.steps_per_epoch != 0)
            yield step, index
        switch(False)

    monkeypatch.setattr(loop, "_batches", switching)


class NoValues(TorchDispatchMode):
    """Refuses to tell a tensor's value, for which a device would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses, self.asked = False, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.asked += 1
            assert not self.refuses
        return function(*args, **(kwargs or {}))


def test_no_step_asks_for_a_value(tmp_path: Path, monkeypatch, late_copies) -> None:
    late_copies()
    values = NoValues()
    within_steps(monkeypatch, lambda is_in_step: setattr(values, "refuses", is_in_step))
    with values:
        train(tmp_path)
    assert values.asked >= 20  # at each epoch's end: loss and test accuracy


@pytest.mark.parametrize("saved_at", ["full", "each step"])
def test_a_training_has_the_bytes_of_one_that_waits(
    tmp_path: Path, bytes_below, monkeypatch, late_copies, saved_at
) -> None:
    train(tmp_path / "waiting")
    late_copies()
    if saved_at == "each step":
        monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    train(tmp_path / "ring")
    assert bytes_below(tmp_path / "ring") == bytes_below(tmp_path / "waiting")


def test_a_training_killed_again_and_again_has_the_same_bytes(
    tmp_path: Path, bytes_below, monkeypatch, late_copies
) -> None:
    train(tmp_path / "waiting")
    late_copies()
    append, calls = writer_module.WeightsWriter.append, []

    def dying(self, *arguments) -> None:
        calls.append(1)
        if len(calls) in (3, 10, 15, 21, 29):
            raise KeyboardInterrupt
        append(self, *arguments)

    monkeypatch.setattr(writer_module.WeightsWriter, "append", dying)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed")
    train(tmp_path / "killed")
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "waiting")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_loss_that_is_not_finite_ends_it_and_is_not_kept(
    tmp_path: Path, monkeypatch, late_copies, device: str
) -> None:
    """With the line of a training that waits, though later; started again it says so again."""
    message = r"^step (\d+): the loss is (nan|inf); lower methods\.\*\.learning_rate \(now 1e\+30\)$"
    if device == "cpu":
        with pytest.raises(FloatingPointError, match=message) as at_once:
            train(tmp_path / "waiting", learning_rate=1e30, min_learning_rate=1e-3)
        late_copies()
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=message) as later:
            train(tmp_path / "ring", device, learning_rate=1e30, min_learning_rate=1e-3)
    if device == "cpu":
        assert str(later.value) == str(at_once.value)
    step = int(str(later.value).split(":")[0].removeprefix("step "))
    state = tmp_path / "ring" / "weights.partial" / "state.pt"
    kept = torch.load(state, weights_only=True)["num_dumped"] if state.exists() else 0
    assert kept == step // 4 * 4  # the whole blocks before, of four steps each


def test_augmentation_moves_its_draws_in_one_piece() -> None:
    class Moves(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
                self.count += args[0].device != result.device
            return result

    images = torch.zeros(7, 3, 8, 8, dtype=torch.uint8, device="meta")
    with Moves() as moves:
        batch = augment(images, flip=True, crop_padding=2, generator=torch.Generator().manual_seed(0))
    assert (batch.shape, batch.device.type, moves.count) == ((7, 3, 8, 8), "meta", 1)


def test_only_towards_a_gpu_memory_is_pinned(monkeypatch) -> None:
    """And nobody waits for the copy."""
    calls = []

    class Pinned:
        def to(self, device, non_blocking=False):
            calls.append((device, non_blocking))
            return "there"

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: Pinned())
    tensor = torch.arange(3)
    assert moved(tensor, torch.device("cpu")) is tensor
    assert moved(tensor, torch.device("meta")).device.type == "meta"
    assert moved(tensor, torch.device("cuda")) == "there"
    assert calls == [(torch.device("cuda"), True)]


@needs_gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_no_step_waits_for_a_gpu(tmp_path: Path, bytes_below, monkeypatch) -> None:
    """By torch's own check, with saves in the steps, captured batches and short ones; and by the same bytes."""
    try:
        prepare(threads=1)
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "_side_stream", lambda network: None)
            train(tmp_path / "waiting", "cuda")
        modes = []

        def switch(is_in_step: bool) -> None:
            torch.cuda.set_sync_debug_mode("error" if is_in_step else "default")
            modes.append(is_in_step)

        within_steps(monkeypatch, switch)
        train(tmp_path / "ring", "cuda")
        assert modes.count(True) == 18  # of 30 steps, less each epoch's last and the first two
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert bytes_below(tmp_path / "ring") == bytes_below(tmp_path / "waiting")
    assert open_weights(tmp_path / "ring" / "weights.zarr").steps.tolist() == list(range(31))


@needs_gpu
def test_a_training_on_a_gpu_goes_on_with_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch) -> None:
    try:
        prepare(threads=1)
        train(tmp_path / "whole", "cuda")
        append, calls = writer_module.WeightsWriter.append, []

        def dying(self, *arguments) -> None:
            calls.append(1)
            if len(calls) in (7, 15):
                raise KeyboardInterrupt
            append(self, *arguments)

        monkeypatch.setattr(writer_module.WeightsWriter, "append", dying)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "killed", "cuda")
        train(tmp_path / "killed", "cuda")
    finally:
        torch.use_deterministic_algorithms(False)
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "whole")
