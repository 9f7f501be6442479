"""Whatever moment a job is killed at, started again it ends with the bytes of one that never was."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from reluscope import files, open_counts, open_weights, stores
from reluscope.checkpoints import writer as weights_writer
from reluscope.counts import CountsWriter
from reluscope.counts import layout as counts_layout
from reluscope.counts import writer as counts_writer
from reluscope.data.spec import DataSpec
from reluscope.patterns import PatternCounts
from reluscope.training import loop
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

DATA = DataSpec.from_config({"name": "digits", "images": 100, "test_images": 50})
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def train(folder: Path) -> None:
    torch.set_num_threads(1)
    spec = TrainingSpec(
        {"name": "resnet8"}, DATA, method_from_config("stepwise", {"epochs": 10, "batch_size": 40}), 0, 1
    )
    with mock.patch.object(weights_writer, "BLOCK_STEPS", 4):
        loop.train(spec, folder / "store.partial", folder / "store.zarr")


def count(folder: Path) -> None:
    """Stands for a counting job: the writer is real, the counts are drawn."""
    chunks = mock.patch.object(counts_layout, "CHUNK_PATTERNS", 1000)
    with chunks, mock.patch.object(counts_writer, "SAVE_BYTES", 20_000):
        store = CountsWriter(folder / "store.partial", folder / "store.zarr", {"run": "r"}, folder.parent / "source")
        try:
            for step in range(len(store.steps), 12):
                store.append(step, step / 4, [counts_of(step, layer) for layer in range(3)])
            store.finish()
        finally:
            store.close()


def counts_of(step: int, layer: int) -> PatternCounts:
    keys = np.unique(np.random.default_rng([step, layer]).integers(0, 9000, 900)).astype(np.uint16)
    counts = np.ones(len(keys), np.int64)
    counts[0] += 900 - len(keys)
    return PatternCounts(f"layer {layer}", keys, counts, 16, 900, 1)


def run_until(job: Callable[[Path], None], folder: Path, num_changes: int | None) -> None:
    """Do a job, and die at the `num_changes`-th time that a file below `folder` is opened, made, renamed or removed."""
    left = num_changes

    def die(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in CHANGES and arguments and str(folder) in str(arguments[0]) and left is not None:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    job(folder)


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have the modules loaded, and no thread yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reluscope.training.loop", "reluscope.counts", "sklearn.datasets", "torch._dynamo"])
    return context


@pytest.mark.slow
@pytest.mark.parametrize("job", [train, count])
def test_kill_9_while_writing_and_renaming(tmp_path: Path, processes, bytes_below, job) -> None:
    """Forty kills, at file operations drawn at random, over several jobs from their beginning to their end."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "zarr.json").touch()
    draw = random.Random(0)

    def run(folder: Path, num_changes: int | None) -> int:
        process = processes.Process(target=run_until, args=(job, folder, num_changes))
        process.start()
        process.join(120)
        return process.exitcode

    assert run(tmp_path / "whole", None) == 0
    expected = bytes_below(tmp_path / "whole")
    kills, finished, folder = 0, 0, tmp_path / "killed"
    while kills < 40:
        status = run(folder, draw.randrange(draw.choice([30, 300, 900])))
        if status == 0:
            assert bytes_below(folder) == expected
            shutil.rmtree(folder)
            finished += 1
        else:
            assert status == -signal.SIGKILL
            kills += 1
    assert run(folder, None) == 0
    assert bytes_below(folder) == expected
    assert finished >= 1


@pytest.mark.slow
def test_kill_9_while_training(tmp_path: Path, processes, bytes_below, capsys) -> None:
    """At random times, wherever the training is; it is killed before its end, and after something was saved."""
    train(tmp_path / "whole")
    draw = random.Random(0)
    for _ in range(10):
        process = processes.Process(target=run_until, args=(train, tmp_path / "killed", None))
        process.start()
        while process.exitcode is None and not (tmp_path / "killed" / "store.partial" / "state.pt").exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.join()
    capsys.readouterr()
    train(tmp_path / "killed")
    assert "continues after step" in capsys.readouterr().out
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "whole")


@contextmanager
def no_room_beyond(num_bytes: int) -> Iterator[None]:
    """No file may become larger: what a quota does, and a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_training_without_room_stops_and_continues_when_there_is(tmp_path: Path, bytes_below) -> None:
    train(tmp_path / "whole")
    size = max(len(data) for name, data in bytes_below(tmp_path / "whole").items() if "/parameters/c/" in name)
    with (
        no_room_beyond(size - 1),
        pytest.raises(files.WriteError, match=r"parameters/c/0/\d+: cannot write [\d,]+ bytes: File too large \("),
    ):
        train(tmp_path / "full")
    with pytest.raises(stores.StoreError):
        open_weights(tmp_path / "full" / "store.zarr")
    assert not list((tmp_path / "full").rglob("*.partial/**/*.partial"))
    train(tmp_path / "full")
    assert bytes_below(tmp_path / "full") == bytes_below(tmp_path / "whole")


def test_a_count_without_room_stops_and_continues_when_there_is(tmp_path: Path, bytes_below) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "zarr.json").touch()
    count(tmp_path / "whole")
    size = max(len(data) for name, data in bytes_below(tmp_path / "whole").items() if "/keys/c/" in name)
    with no_room_beyond(size - 1), pytest.raises(files.WriteError, match=r"cannot write [\d,]+ bytes: File too large"):
        count(tmp_path / "full")
    with pytest.raises(stores.StoreError):
        open_counts(tmp_path / "full" / "store.zarr")
    count(tmp_path / "full")
    assert bytes_below(tmp_path / "full") == bytes_below(tmp_path / "whole")


def test_a_folder_that_must_not_be_written_to() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as above:  # not below tmp_path, into which nobody else may look
        Path(above).chmod(0o755)
        folder = Path(above) / "locked"
        folder.mkdir(mode=0o555)
        if user == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(files.WriteError, match=r"locked/new: cannot be made: Permission denied \("):
                stores.lock(folder / "new", "training this run")
            with pytest.raises(files.WriteError, match=r"locked: cannot be written to: Permission denied"):
                stores.lock(folder, "training this run")
            with pytest.raises(files.WriteError, match=r"locked/a: cannot write 1,000 bytes: Permission denied \("):
                files.write_file(folder / "a", bytes(1000))
        finally:
            os.seteuid(user)


def test_nothing_is_written_to_a_store_after_a_failure(tmp_path: Path) -> None:
    """Zarr writes chunks side by side, and the other ones go on when one fails."""
    group = stores.create_group(tmp_path / "s.zarr", {})
    array = stores.create_array(group, "a", shape=(8,), dimensions=("x",), dtype=np.float64, chunks=(4,))
    with no_room_beyond(1), pytest.raises(files.WriteError):
        array[:4] = 1.0
    with pytest.raises(files.WriteError, match=r"s\.zarr/\S+: cannot write [\d,]+ bytes: File too large"):
        array[4:] = 1.0
    assert not list((tmp_path / "s.zarr" / "a" / "c").glob("*"))


def test_a_store_that_lost_a_chunk_is_not_finished(tmp_path: Path) -> None:
    group = stores.create_group(tmp_path / "s.partial", {})
    stores.create_array(group, "a", shape=(8,), dimensions=("x",), dtype=np.float64, chunks=(4,))[:4] = 1.0
    with pytest.raises(stores.StoreError, match="cannot be finished: 1 of 2 chunks of a are missing"):
        stores.finish(tmp_path / "s.partial", tmp_path / "s.zarr", group)
    assert not (tmp_path / "s.zarr").exists()


def test_what_is_promised_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of calls: each file's contents are synchronised before its name appears, and its name before the
    next file is written; the state that promises a block comes after the block."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        calls.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        calls.append(("name", str(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    files.write_file(tmp_path / "new" / "a", b"1")
    a = str(tmp_path / "new" / "a")
    assert calls == [("sync", str(tmp_path)), ("sync", f"{a}.partial"), ("name", a), ("sync", str(tmp_path / "new"))]
    calls.clear()
    train(tmp_path / "run")
    named = [path for call, path in calls if call == "name"]
    for path in named:
        assert calls.index(("sync", f"{path}.partial")) < calls.index(("name", path))
    states = [i for i, path in enumerate(named) if path.endswith("state.pt")]
    blocks = [i for i, path in enumerate(named) if "/parameters/c/0/" in path]
    assert len(states) >= len(blocks) == 8
    assert all(block < state for block, state in zip(blocks, states, strict=False))
