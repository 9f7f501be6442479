"""The examples run as they are, copied out of the repository."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from reluscope import build_network, open_counts


def run(script: Path, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_plain_loop_records_and_goes_on(tmp_path: Path, repository: Path) -> None:
    script = Path(shutil.copy(repository / "examples" / "plain_loop.py", tmp_path))
    assert run(script, tmp_path).count("\n") == 9
    assert open_counts(tmp_path / "counts.zarr").steps.tolist() == list(range(0, 41, 5))

    (tmp_path / "stopped").mkdir()
    whole = script.read_text()
    script.write_text(whole.replace("step += 1\n", "step += 1\n                assert step < 17\n"))
    with pytest.raises(subprocess.CalledProcessError):
        run(script, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "counts.zarr").exists()
    script.write_text(whole)
    run(script, tmp_path / "stopped")
    assert open_counts(tmp_path / "stopped" / "counts.zarr").steps.tolist() == list(range(0, 41, 5))


@pytest.fixture
def callback_module(tmp_path: Path, repository: Path) -> ModuleType:
    file = shutil.copy(repository / "examples" / "lightning_callback.py", tmp_path)
    spec = importlib.util.spec_from_file_location("lightning_callback", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fit(callback, network: nn.Module, steps: range, *, fails: bool = False) -> None:
    """Calls the hooks in Lightning's order: checkpoints at the end of an epoch of five steps, then its end.

    A step takes two batches, whose gradients are accumulated.
    """
    trainer = SimpleNamespace(is_global_zero=True, global_step=steps.start, num_training_batches=10)
    trainer.current_epoch = steps.start // 5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    callback.on_train_start(trainer, network)
    for batch_idx in steps:
        batch = torch.randn(8, 1, 8, 8)
        loss = network(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        callback.on_train_batch_end(trainer, network, loss, batch, 2 * batch_idx % 10)
        optimizer.step()
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, network, loss, batch, 2 * batch_idx % 10 + 1)
        if trainer.global_step % 5 == 0:
            callback.on_save_checkpoint(trainer, network, {})
            trainer.current_epoch += 1
    if fails:
        callback.on_exception(trainer, network, KeyboardInterrupt())
    else:
        callback.on_train_end(trainer, network)


def test_a_lightning_callback_records_and_goes_on(tmp_path: Path, callback_module: ModuleType) -> None:
    network, path = build_network("toynet8", in_channels=1), tmp_path / "c.zarr"
    images = torch.randn(20, 1, 8, 8)

    def callback():
        return callback_module.RecordPatterns(images, str(path), every=3, batch_size=10)

    fit(callback(), network, range(9), fails=True)
    assert not path.exists()
    fit(callback(), network, range(5, 11))  # from the checkpoint of step 5
    store = open_counts(path)
    assert store.steps.tolist() == [0, 3, 5, 6, 9, 11]
    assert store.epochs.tolist() == [step / 5 for step in store.steps.tolist()]


def test_other_processes_record_nothing(tmp_path: Path, callback_module: ModuleType) -> None:
    callback = callback_module.RecordPatterns(torch.randn(20, 1, 8, 8), str(tmp_path / "c.zarr"))
    trainer = SimpleNamespace(is_global_zero=False, global_step=0, current_epoch=0, num_training_batches=5)
    network = build_network("toynet8", in_channels=1)
    callback.on_train_start(trainer, network)
    callback.on_train_batch_end(trainer, network, None, None, 0)
    callback.on_train_end(trainer, network)
    assert not list(tmp_path.glob("c.*"))
