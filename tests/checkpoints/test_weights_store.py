"""The weights store gives back every step bit for bit, opens in xarray, and is never wrongly taken for finished."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from torch import nn

from reluscope import files, stores
from reluscope.checkpoints import WeightsWriter, open_weights
from reluscope.checkpoints import cores as cores_module
from reluscope.checkpoints import writer as writer_module
from reluscope.files import WriteError

STEPS = np.arange(0, 150, 2)

STRANGE = torch.tensor(
    [0x7FC00001, 0x7F800001, 0xFFC12345, 0x80000000, 0x7F800000, 0xFF800000, 0x00000001], dtype=torch.int64
)


@pytest.fixture(autouse=True)
def _two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the second is not full."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 64)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.PReLU(), nn.Flatten(), nn.Linear(5, 3))


def change(net: nn.Module, step: int) -> None:
    """Move every tensor, and plant NaN payloads, signed zeros, infinities and a denormal."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.dtype == torch.int64:
                tensor.fill_(step + 2**40)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        net[4].weight.view(-1)[: len(STRANGE)] = STRANGE.to(torch.int32).view(torch.float32)


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}


def writer(folder: Path, net: nn.Module, **attributes) -> WeightsWriter:
    epoch_ends, settings = np.array([30, 147]), {"seed": 1, **attributes}
    return WeightsWriter(folder / "w.partial", folder / "w.zarr", net, STEPS, STEPS / 12, epoch_ends, settings)


def write(folder: Path) -> dict[int, dict[str, bytes]]:
    net, expected = network(), {}
    store = writer(folder, net)
    for step in STEPS.tolist():
        change(net, step)
        expected[step] = bits(net)
        if step in (30, 148):
            store.append_accuracy(step / 200)
        store.append({"train_loss": step / 7}, {"0": torch.full((3,), float(step))})
    store.finish({})
    return expected


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("chunk_parameters", "block_steps"), [(1 << 16, 64), (7, 64), (16, 5), (7, 1)])
def test_every_step_comes_back_bit_for_bit(tmp_path: Path, monkeypatch, chunk_parameters, block_steps, threads) -> None:
    """Whatever part of a chunk a block fills, and however many chunks are compressed at a time."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(writer_module, "CHUNK_VALUES", chunk_parameters * block_steps)
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", block_steps)
    expected = write(tmp_path)
    store, net = open_weights(tmp_path / "w.zarr"), network()
    for step in [*STEPS.tolist(), 0, 148, 64]:
        store.load_into(net, step)
        assert bits(net) == expected[step]
    np.testing.assert_array_equal(store.scalar("train_loss"), STEPS / 7)
    assert (store.evaluated_steps.tolist(), store.test_accuracy.tolist()) == ([30, 147], [0.15, 0.74])


def test_what_is_not_given_is_nan_whatever_an_earlier_block_held(tmp_path: Path, monkeypatch) -> None:
    """Blocks of memory are filled again."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    monkeypatch.setattr(writer_module, "BLOCKS_WAITING", 1)
    store = writer(tmp_path, network())
    for step in STEPS.tolist():
        store.append({"train_loss": 1.0} if step < 100 else {}, {})
    store.finish({})
    losses = open_weights(tmp_path / "w.zarr").scalar("train_loss")
    np.testing.assert_array_equal(losses, np.where(STEPS < 100, 1.0, np.nan))


@pytest.mark.parametrize(("has_spare_core", "steps"), [(True, 12), (False, 4)])
def test_a_training_waits_for_a_slow_disk(tmp_path: Path, monkeypatch, has_spare_core, steps) -> None:
    """For the oldest of three blocks of four, or, where it has all cores, for each block."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    monkeypatch.setattr(writer_module, "has_spare_core", lambda _: has_spare_core)
    disk, write_chunk = threading.Event(), writer_module._write_chunk
    monkeypatch.setattr(writer_module, "_write_chunk", lambda *chunk: disk.wait(60) and write_chunk(*chunk))
    store, dumped, waits = writer(tmp_path, network()), [], threading.Event()
    wait = store._wait

    def append_all() -> None:
        for step in STEPS.tolist():
            dumped.append(step)
            store.append({"train_loss": step / 7}, {})
        store.finish({})

    def wait_and_tell(most: int) -> None:
        if len(store._waiting) > most:
            waits.set()
        wait(most)

    monkeypatch.setattr(store, "_wait", wait_and_tell)
    training = threading.Thread(target=append_all)
    training.start()
    try:
        assert waits.wait(60)
        time.sleep(0.2)  # in which a training that does not wait dumps them all
        assert len(dumped) == steps
    finally:
        disk.set()
        training.join()
    np.testing.assert_array_equal(open_weights(tmp_path / "w.zarr").scalar("train_loss"), STEPS / 7)


@pytest.mark.parametrize(("threads", "expected"), [(1, True), (2, False), (3, False)])
def test_a_training_with_as_many_threads_as_cores_leaves_none(monkeypatch, threads, expected) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert cores_module.has_spare_core(network()) is expected
    assert cores_module.has_spare_core(network().to("meta"))  # as any that is not the processor


@pytest.mark.parametrize(("cores", "elsewhere"), [(1, 1), (5, 5), (64, 8)])
def test_blocks_of_a_gpu_are_compressed_by_the_cores_that_it_leaves(monkeypatch, cores, elsewhere) -> None:
    """A training on the CPU keeps to its own threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert cores_module.compressing_threads(network()) == 2
    assert cores_module.compressing_threads(network().to("meta")) == elsewhere


def test_chunks_are_even_shares(tmp_path: Path, monkeypatch) -> None:
    """Not two of 50 and one of 19, which would be compressed as if it had 50."""
    monkeypatch.setattr(writer_module, "CHUNK_VALUES", 50 * 64)
    write(tmp_path)
    assert open_weights(tmp_path / "w.zarr").layout.size("parameters") == 119
    assert stores.open_store(tmp_path / "w.zarr", "weights")["parameters"].chunks == (40, 64)


def test_a_block_of_a_large_network_has_fewer_steps(tmp_path: Path, monkeypatch) -> None:
    """A step is 119 parameters, 10 statistics and 1 counter, 524 bytes: five fit, and four are a power of two."""
    monkeypatch.setattr(writer_module, "BLOCK_BYTES", 5 * 524 + 523)
    expected = write(tmp_path)
    store, net = open_weights(tmp_path / "w.zarr"), network()
    assert stores.open_store(tmp_path / "w.zarr", "weights")["parameters"].chunks == (119, 4)
    for step in (0, 6, 8, 148):
        store.load_into(net, step)
        assert bits(net) == expected[step]
    monkeypatch.setattr(writer_module, "BLOCK_BYTES", 1)
    write(tmp_path / "more")
    assert stores.open_store(tmp_path / "more/w.zarr", "weights")["parameters"].chunks == (119, 1)


@pytest.mark.parametrize("block_steps", [1, 4])
def test_differences_are_along_time(tmp_path: Path, monkeypatch, block_steps: int) -> None:
    """Second differences, which are best for long blocks, would be of neighbouring parameters in short ones."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", block_steps)

    def size(folder: Path) -> int:
        torch.manual_seed(0)
        net, steps = nn.Linear(100, 100), np.arange(16)
        store = WeightsWriter(folder / "w.partial", folder / "w.zarr", net, steps, steps / 16, steps[:0], {})
        for _ in steps:
            with torch.no_grad():
                net.weight += 1e-4 * torch.randn(100, 100)
            store.append({}, {})
        store.finish({})
        return sum(file.stat().st_size for file in (folder / "w.zarr/parameters/c").rglob("*") if file.is_file())

    chosen = size(tmp_path / "chosen")
    second = {"delta_spec": "try_consecutive", "delta_encoding_order": 2}
    monkeypatch.setattr(writer_module, "_delta", lambda _: second)
    assert chosen < 0.95 * size(tmp_path / "second")


def test_it_loads_into_a_channels_last_network(tmp_path: Path) -> None:
    expected = write(tmp_path)
    net = network().to(memory_format=torch.channels_last)
    open_weights(tmp_path / "w.zarr").load_into(net, 10)
    assert bits(net) == expected[10]


def test_neighbouring_steps_read_a_block_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    store, net, reads = open_weights(tmp_path / "w.zarr"), network(), []
    array = type(store._arrays["parameters"])
    original = array.__getitem__
    monkeypatch.setattr(array, "__getitem__", lambda self, key: reads.append(self.name) or original(self, key))
    for step in STEPS[:64].tolist():
        store.load_into(net, step)
    assert reads.count("/parameters") == 1


def test_xarray_opens_it_with_names_and_coordinates(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = xarray.open_zarr(tmp_path / "w.zarr")
    assert dataset.parameters.dims == ("parameter", "step")
    assert dataset.parameters.dtype == np.float32
    assert dataset.step.values.tolist() == STEPS.tolist()
    assert dataset.train_loss.dims == dataset.epoch.dims == ("step",)
    assert set(dataset.train_loss.coords) == {"step", "epoch"}
    assert dataset.test_accuracy.sel(evaluated_step=147) == 0.74
    assert {"name": "0.weight", "shape": [5, 2, 3, 3], "offset": 0} in dataset.parameters.attrs["entries"]
    assert dataset.attrs["seed"] == 1


def test_a_killed_writer_continues_to_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch) -> None:
    """Killed in the second block, saved by the clock in the middle of it, and continued from there."""
    write(tmp_path / "whole")
    net = network()
    store = writer(tmp_path / "killed", net)
    for step in STEPS[:70].tolist():
        if step == 132:
            monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
        if step == 134:
            monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
        change(net, step)
        if step == 30:
            store.append_accuracy(step / 200)
        store.append({"train_loss": step / 7}, {"0": torch.full((3,), float(step))})
    expected = bits(net)
    store.close()

    again = network()
    store = writer(tmp_path / "killed", again)
    assert store.resume_step == 132
    assert store.restore(again)["0"].tolist() == [132.0] * 3
    change(net, 132)
    expected = bits(net)
    assert bits(again) == expected
    for step in STEPS[67:].tolist():
        change(again, step)
        if step == 148:
            store.append_accuracy(step / 200)
        store.append({"train_loss": step / 7}, {})
    store.finish({})
    assert bytes_below(tmp_path / "killed" / "w.zarr") == bytes_below(tmp_path / "whole" / "w.zarr")
    assert [p.name for p in (tmp_path / "killed").iterdir()] == ["w.zarr"]


def test_a_state_that_outlived_its_store_is_not_resumed(tmp_path: Path, monkeypatch) -> None:
    """Killed after the rename and before the clean-up; started again, and killed before the first block was saved."""
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    net = network()
    store = writer(tmp_path, net)
    store.append({}, {})
    store.close()
    shutil.rmtree(tmp_path / "w.partial" / "weights.zarr")
    for _ in range(2):
        store = writer(tmp_path, net)
        assert store.resume_step is None
        store.close()


def test_an_unfinished_training_of_other_settings_is_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    net = network()
    store = writer(tmp_path, net)
    store.append({}, {})
    store.close()
    with pytest.raises(stores.StoreError, match=r"unfinished training with seed: 1, but now it is 2"):
        writer(tmp_path, net, seed=2)
    assert writer(tmp_path, net).resume_step == 0


A, B = {"device": "A100", "threads": None, "versions": {"torch": "2.13.0"}}, {"device": "H100", "threads": None}
B["versions"] = {"torch": "2.14.0"}


def begun_on(folder: Path, net: nn.Module, machine: dict, **options) -> WeightsWriter:
    settings = (STEPS, STEPS / 12, np.array([30, 147]), {"seed": 1, **machine})
    return WeightsWriter(folder / "w.partial", folder / "w.zarr", net, *settings, **options)


def test_a_training_goes_on_elsewhere_only_where_it_is_told_to(tmp_path: Path, monkeypatch) -> None:
    """The line says in what the machine differs and the way out, and nothing is lost; the store says who made what."""
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    net = network()
    store = begun_on(tmp_path, net, A)
    for _ in STEPS[:10]:
        store.append({}, {})
    store.close()
    for _ in range(2):
        with pytest.raises(stores.StoreError, match=r"device: A100, but now it is H100.*resume_elsewhere=true") as told:
            begun_on(tmp_path, net, B)
        assert "delete" not in str(told.value)
        assert "\n" not in str(told.value)

    store = begun_on(tmp_path, net, B, resume_elsewhere=True)
    assert store.resume_step == 18
    store.close()  # before a step was made there
    store = begun_on(tmp_path, net, A)
    for _ in STEPS[10:20]:
        store.append({}, {})
    store.close()
    store = begun_on(tmp_path, net, B, resume_elsewhere=True)
    for _ in STEPS[20:25]:
        store.append({}, {})
    store.close()
    with pytest.raises(stores.StoreError, match=r"device: H100, but now it is A100"):
        begun_on(tmp_path, net, A)
    store = begun_on(tmp_path, net, B)
    for step in STEPS[25:].tolist():
        if step in (30, 148):
            store.append_accuracy(0.5)
        store.append({}, {})
    store.finish({})
    attributes = open_weights(tmp_path / "w.zarr").attributes
    assert {name: attributes[name] for name in A} == A
    assert attributes["resumed"] == [{"step": 38, **B}]


def test_settings_are_no_machine(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = begun_on(tmp_path, network(), A)
    store.append({}, {})
    store.close()
    with pytest.raises(stores.StoreError, match=r"unfinished training with seed: 1, but now it is 2"):
        begun_on(tmp_path, network(), {**A, "seed": 2}, resume_elsewhere=True)


def test_after_a_failed_block_nothing_later_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the second of many blocks cannot be written: the training hears of it, and continues after the
    first."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 5)
    states, write_file = [], files.write_file

    def failing(path: Path, data: object) -> None:
        if path.name == "state.pt":
            states.append(path)
            if len(states) == 2:
                raise WriteError("no room")
        write_file(path, data)

    monkeypatch.setattr(files, "write_file", failing)
    net = network()
    store = writer(tmp_path, net)

    def dump_all() -> None:
        for _ in STEPS:
            store.append({}, {})
        store.finish({})

    with pytest.raises(WriteError, match="no room"):
        dump_all()
    store.close()
    assert len(states) == 2
    assert writer(tmp_path, net).resume_step == STEPS[4]


def test_whatever_chunk_fails_first_the_cause_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that are written at a time: those that are refused because of it say the same."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(writer_module, "CHUNK_VALUES", 7 * 64)
    write_file = files.write_file

    def failing(path: Path, data: object) -> None:
        if "/parameters/c/" in str(path):
            raise WriteError("no room")
        write_file(path, data)

    def dump_a_block(store: WeightsWriter) -> None:
        for _ in STEPS[:64]:
            store.append({}, {})
        store._wait(0)

    monkeypatch.setattr(files, "write_file", failing)
    for attempt in range(10):
        store = writer(tmp_path / str(attempt), network())
        with pytest.raises(WriteError, match=r"^no room$"):
            dump_a_block(store)
        store.close()
        assert writer(tmp_path / str(attempt), network()).resume_step is None


@pytest.mark.parametrize("array", ["parameters", "train_loss"])
def test_unfinished_work_that_lost_a_chunk_is_not_continued(tmp_path: Path, monkeypatch, array: str) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 5)
    net = network()
    store = writer(tmp_path, net)
    for _ in range(12):
        store.append({}, {})
    store.close()
    chunk = min((tmp_path / "w.partial" / "weights.zarr" / array / "c").rglob("0"))
    chunk = chunk / "0" if chunk.is_dir() else chunk
    data = bytearray(chunk.read_bytes())
    chunk.unlink()
    for _ in range(2):  # the first failure gives the lock back
        with pytest.raises(stores.StoreError, match=r"cannot be continued: .* is missing; put back"):
            writer(tmp_path, net)
    chunk.write_bytes(data)
    assert writer(tmp_path, net).resume_step == STEPS[9]


def test_a_second_process_on_the_same_run_stops(tmp_path: Path) -> None:
    first = writer(tmp_path, network())
    with pytest.raises(stores.StoreError, match="another process is training this run"):
        writer(tmp_path, network())
    first.close()


def test_what_is_not_finished_does_not_open(tmp_path: Path) -> None:
    store = writer(tmp_path, network())
    with pytest.raises(stores.StoreError, match=r"w\.zarr: expected a weights store, but there is none"):
        open_weights(tmp_path / "w.zarr")
    with pytest.raises(stores.StoreError, match="is unfinished"):
        open_weights(tmp_path / "w.partial" / "weights.zarr")
    with pytest.raises(RuntimeError, match="75 steps were announced, 0 were written"):
        store.finish({})


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    chunk = tmp_path / "w.zarr" / "parameters" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(stores.StoreError, match=r"array parameters, steps 0 to 126, is damaged .*checksum"):
        open_weights(tmp_path / "w.zarr").load_into(network(), 0)


def test_a_lost_chunk_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "w.zarr" / "parameters" / "c" / "0" / "1").unlink()
    with pytest.raises(
        stores.StoreError, match=r"is damaged: 1 of 2 chunks of parameters are missing; put a copy in its place"
    ):
        open_weights(tmp_path / "w.zarr")


def test_steps_and_networks_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path)
    store = open_weights(tmp_path / "w.zarr")
    with pytest.raises(ValueError, match=r"step 7 was not dumped; there are 75 steps from 0 to 148, the nearest is 6"):
        store.load_into(network(), 7)
    wide = nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(5), nn.PReLU(), nn.Flatten())
    with pytest.raises(
        ValueError, match=r"missing 4\.weight \[3, 5\]; .*0\.weight \[6, 2, 3, 3\] instead of \[5, 2, 3, 3\]"
    ):
        store.load_into(wide, 0)


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"0\.weight: expected torch\.float32 in the weights store, got torch\.float64"
    ):
        writer(tmp_path, network().double())
