"""Steps that are gathered on a device and copied beside the training make the store of those that are copied at once.

Where there is no GPU, the ring works on the CPU, with copies that are made as late as the rules allow.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from reluscope.checkpoints import WeightsWriter, open_weights, ring
from reluscope.checkpoints import writer as writer_module
from reluscope.checkpoints.layout import KINDS, flattener, tensors_by_kind
from reluscope.checkpoints.ring import Ring, SideStream
from reluscope.files import WriteError

STEPS = np.arange(0, 46, 2)
NAN_PAYLOADS = torch.tensor([0x7FC00001, 0x7F800001, 0x00000001], dtype=torch.int32).view(torch.float32)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="copies from a device: no NVIDIA GPU here")


def network() -> nn.Module:
    """With parameters in channels_last, transposed, and with gaps between their elements."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 1, 1), nn.PReLU(), nn.Linear(5, 3)
    ).to(memory_format=torch.channels_last)
    net.transposed = nn.Parameter(torch.randn(4, 3).t())
    net.gaps = nn.Parameter(torch.randn(6, 4)[::2, 1:3])
    return net


def change(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.dtype == torch.int64:
                tensor.fill_(step + 2**40)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        net[4].weight[0, :3] = NAN_PAYLOADS.to(net[4].weight.device)


def writer(folder: Path, net: nn.Module, **options) -> WeightsWriter:
    return WeightsWriter(folder / "w.partial", folder / "w.zarr", net, STEPS, STEPS / 12, STEPS[:0], {}, **options)


def dump(store: WeightsWriter, net: nn.Module, momentum: torch.Tensor, steps: list[int]) -> None:
    device = next(net.parameters()).device
    for step in steps:
        change(net, step)
        momentum.fill_(step)
        scalars = {"learning_rate": 0.1 / (step + 1), "train_loss": torch.tensor(step / 7, device=device)}
        if step % 8:
            scalars["train_accuracy"] = torch.tensor(step / 50, device=device)
        store.append(scalars, {"0": momentum})


def write(folder: Path, device: str = "cpu") -> None:
    net = network().to(device)
    store = writer(folder, net)
    dump(store, net, torch.zeros(2, 3, device=device), STEPS.tolist())
    store.finish({})


@pytest.mark.parametrize("seconds", [60.0, -1.0])  # saved when full, or at each step
@pytest.mark.parametrize("block_steps", [64, 4, 1])
def test_the_store_is_that_of_steps_copied_at_once(
    tmp_path: Path, bytes_below, monkeypatch, late_copies, block_steps, seconds
) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", block_steps)
    write(tmp_path / "at once")
    late_copies()
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", seconds)
    write(tmp_path / "ring")
    assert bytes_below(tmp_path / "ring") == bytes_below(tmp_path / "at once")
    accuracy = open_weights(tmp_path / "ring" / "w.zarr").scalar("train_accuracy")
    np.testing.assert_array_equal(accuracy, np.where(STEPS % 8, np.float32(STEPS / 50), np.nan))


@pytest.mark.parametrize("saved", [False, True])
def test_killed_at_any_of_two_blocks_steps_it_continues_to_the_same_bytes(
    tmp_path: Path, bytes_below, monkeypatch, late_copies, saved
) -> None:
    """With and without a save by the clock in the middle of one, five steps before the kill."""
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 8)
    write(tmp_path / "at once")
    late_copies()
    for kill in range(1, 15):
        folder, net, momentum = tmp_path / str(kill), network(), torch.zeros(3, 2).t()
        save_at, kept = max(kill - 5, 0), kill // 8 * 8
        store = writer(folder, net)
        dump(store, net, momentum, STEPS[:save_at].tolist())
        if saved:
            monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
            kept = max(kept, save_at + 1)
        dump(store, net, momentum, STEPS[save_at : save_at + 1].tolist())
        monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
        dump(store, net, momentum, STEPS[save_at + 1 : kill].tolist())
        store.close()  # as a kill after which the thread lives on

        net = network()
        store = writer(folder, net)
        assert store.resume_step == (STEPS[kept - 1] if kept else None)
        if kept:
            (restored,) = store.restore(net).values()
            assert restored.tolist() == [[STEPS[kept - 1]] * 3] * 2
            assert restored.stride() == (1, 2)
        dump(store, net, momentum, STEPS[kept:].tolist())
        store.finish({})
        assert bytes_below(folder) == bytes_below(tmp_path / "at once")


def test_a_block_leaves_only_when_the_one_before_has_left(tmp_path: Path, monkeypatch, late_copies) -> None:
    """And each step adds neither a wait nor a copy."""
    side = late_copies()
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    net = network()
    store = writer(tmp_path, net)
    seen = []
    for step in STEPS.tolist():
        dump(store, net, torch.zeros(1), [step])
        seen.append((side.joins, len(side._begun)))
    assert seen == [((i + 1) // 4,) * 2 for i in range(len(STEPS))]
    store.close()


def test_gathered_elements_lie_where_c_order_puts_them(late_copies) -> None:
    net, side = network(), late_copies()
    tensors = tensors_by_kind(net)
    gathered = Ring(tensors, 2, ("train_loss",), side)
    sizes = {kind: (2, sum(t.numel() for t in tensors[kind])) for kind in KINDS} | {"train_loss": (2,)}
    dtypes = {kind: dtype for kind, (_, dtype) in KINDS.items()} | {"train_loss": torch.float64}
    block = gathered.new_block(sizes, dtypes)
    for row in range(2):
        change(net, row)
        gathered.put(row, {"train_loss": row + 0.5})
    gathered.send(2, block, {})()
    for kind in KINDS:
        expected = np.zeros(sizes[kind][1], KINDS[kind][0])
        flattener(tensors[kind])(expected)
        assert block[kind][1].tobytes() == expected.tobytes()
        assert block[kind][0].tobytes() != expected.tobytes()
    assert block["train_loss"].tolist() == [0.5, 1.5]
    assert [flat.ndim for flat in gathered._flat["parameters"]].count(1) == 9  # all but that with gaps


def test_what_the_check_refuses_is_never_saved(tmp_path: Path, monkeypatch, late_copies) -> None:
    """It sees each step once and in order, saves in the middle of blocks included, before a state promises the step."""
    late_copies()
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    seen, net = [], network()

    def check(step: int, loss: float) -> None:
        seen.append(step)
        assert loss == np.float32(step / 7)
        if step == 18:
            raise FloatingPointError("step 18")

    store = writer(tmp_path, net, check=check)
    dump(store, net, torch.zeros(1), STEPS[:5].tolist())
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    dump(store, net, torch.zeros(1), STEPS[5:6].tolist())
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
    with pytest.raises(FloatingPointError, match=r"^step 18$"):
        dump(store, net, torch.zeros(1), STEPS[6:].tolist())
    store.close()
    assert seen == list(range(0, 20, 2))
    assert writer(tmp_path, net).resume_step == 14


def test_a_block_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch, late_copies) -> None:
    late_copies()
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    net = network()
    store = writer(tmp_path, net)
    dump(store, net, torch.zeros(1), STEPS[:4].tolist())
    store._wait(0)

    def failing(*chunk) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "_write_chunk", failing)
        with pytest.raises(WriteError, match="no room"):
            dump(store, net, torch.zeros(1), STEPS[4:].tolist())
        store.close()
    assert writer(tmp_path, net).resume_step == STEPS[3]


def test_a_side_stream_follows_torchs_rules(monkeypatch) -> None:
    """It waits for what was launched, copies without blocking, marks the end; and only `join` holds up what follows."""
    calls: list[str] = []

    def stream(name: str):
        return SimpleNamespace(name=name, wait_stream=lambda other: calls.append(f"{name} waits for {other.name}"))

    @contextlib.contextmanager
    def on(stream):
        calls.append(f"on {stream.name}")
        yield
        calls.append("back")

    def event(*, blocking: bool):
        assert blocking
        return SimpleNamespace(record=lambda: calls.append("record"), synchronize=lambda: calls.append("host waits"))

    cuda = SimpleNamespace(
        Stream=lambda device: stream(f"side of {device}"),
        current_stream=lambda device: stream(f"current of {device}"),
        stream=on,
        Event=event,
    )
    monkeypatch.setattr(ring.torch, "cuda", cuda)
    target = SimpleNamespace(copy_=lambda source, non_blocking: calls.append(f"copy {source} {non_blocking}"))
    side = SideStream(torch.device("cuda:1"))
    wait = side.copy([(target, "a"), (target, "b")])
    assert calls == [
        "side of cuda:1 waits for current of cuda:1",
        *["on side of cuda:1", "copy a True", "copy b True", "record", "back"],
    ]
    calls.clear()
    wait()
    side.join()
    assert calls == ["host waits", "current of cuda:1 waits for side of cuda:1"]


def test_only_on_a_gpu_steps_are_gathered() -> None:
    assert writer_module._side_stream(network()) is None
    assert writer_module._side_stream(network().to("meta")) is None


@needs_gpu
@pytest.mark.parametrize("block_steps", [4, 23])  # the last one full, or not
@pytest.mark.parametrize("seconds", [60.0, -1.0])
def test_a_gpu_gives_the_bytes_of_the_cpu(tmp_path: Path, bytes_below, monkeypatch, seconds, block_steps) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", block_steps)
    write(tmp_path / "cpu")
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", seconds)
    net = network().cuda()
    store, momentum = writer(tmp_path / "gpu", net), torch.zeros(3, 2, device="cuda").t()
    dump(store, net, momentum, STEPS.tolist())
    store.finish({})
    assert bytes_below(tmp_path / "gpu") == bytes_below(tmp_path / "cpu")
