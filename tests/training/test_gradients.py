"""A training whose full batches are captured is, bit for bit, the one that launches each operation."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reluscope.checkpoints import writer as writer_module
from reluscope.data.spec import DataSpec
from reluscope.networks import build_network, network_families
from reluscope.stages.devices import prepare
from reluscope.training import gradients, loop
from reluscope.training.gradients import CapturedGradients, eager_gradients
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

NETWORKS = [
    *((family, "relu") for family in network_families()),
    ("resnet", "prelu"),
]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs: no NVIDIA GPU here")


def recorded(function, device):
    """In place of a CUDA graph: what was captured runs again, and its results land in the tensors of the first time."""
    parameters = list(function.__self__._network.parameters())

    def tensors(results):
        loss, logits, grads = results
        return [loss, logits, *(grad for grad in grads if grad is not None)]

    def replay() -> None:
        before = [parameter.grad for parameter in parameters]
        for static, fresh in zip(tensors(results), tensors(function()), strict=True):
            static.copy_(fresh)
        for parameter, grad in zip(parameters, before, strict=True):
            parameter.grad = grad  # a graph knows nothing of Python's attributes

    for _ in range(gradients._WARM_UPS):
        function()
    results = function()
    return results, replay


def train(folder: Path, network: str = "resnet8") -> None:
    """8 updates: batches of 40, 40 and 20, augmented, dumped in blocks of 3 steps."""
    data = DataSpec.from_config({"name": "digits", "images": 100, "augmentation": {"crop_padding": 1}})
    method = method_from_config("cyclic", {"epochs": 3, "batch_size": 40})
    loop.train(TrainingSpec({"name": network}, data, method, 0), folder / "weights.partial", folder / "weights.zarr")


def capturing(monkeypatch, capture=recorded) -> list[CapturedGradients]:
    """Let trainings on the CPU go the way of those on a GPU."""
    made = []

    def of(spec, network, device):
        made.append(CapturedGradients(network, spec.method.batch_size))
        return made[-1]

    monkeypatch.setattr(gradients, "_captured", capture)
    monkeypatch.setattr(loop, "_gradients", of)
    return made


@pytest.mark.parametrize("network", ["resnet8", "fixup_resnet8"])
def test_a_captured_training_has_the_bits_of_an_eager_one(tmp_path: Path, bytes_below, monkeypatch, network) -> None:
    """With short batches between, whose gradients are others, and running statistics that no warm-up touched."""
    train(tmp_path / "eager", network)
    made = capturing(monkeypatch)
    train(tmp_path / "captured", network)
    assert made[0]._replay is not None
    assert bytes_below(tmp_path / "captured") == bytes_below(tmp_path / "eager")


@pytest.mark.parametrize("killed_at", [2, 4, 7])  # before a full batch, a short one, and a full one
def test_a_captured_training_goes_on_with_the_same_bits(tmp_path: Path, bytes_below, monkeypatch, killed_at) -> None:
    train(tmp_path / "eager")
    capturing(monkeypatch)
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)  # every step
    append = writer_module.WeightsWriter.append

    def dying(self, *arguments) -> None:
        if self._num_dumped == killed_at:
            raise KeyboardInterrupt
        append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer_module.WeightsWriter, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed")
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
    train(tmp_path / "killed")
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "eager")


def test_where_nothing_can_be_captured_the_training_goes_on_as_it_is(
    tmp_path: Path, bytes_below, monkeypatch, capsys
) -> None:
    def failing(function, device):
        function()
        raise RuntimeError("no memory for it")

    train(tmp_path / "eager")
    capturing(monkeypatch, failing)
    train(tmp_path / "captured")
    assert capsys.readouterr().out.count("cannot be captured: no memory for it") == 1
    assert bytes_below(tmp_path / "captured") == bytes_below(tmp_path / "eager")


def test_only_our_own_networks_on_a_gpu_are_captured() -> None:
    """A network from elsewhere may decide in Python what it does at a step, and a graph would repeat its first."""
    network = build_network("resnet8", 1, 10)
    data = DataSpec.from_config({"name": "digits"})
    ours = TrainingSpec({"name": "resnet8"}, data, method_from_config("stepwise", {}), 0)
    theirs = TrainingSpec({"import": "package:network"}, data, method_from_config("stepwise", {}), 0)
    gpu = torch.device("cuda")
    assert isinstance(loop._gradients(ours, network, gpu), CapturedGradients)
    assert not isinstance(loop._gradients(theirs, network, gpu), CapturedGradients)
    assert not isinstance(loop._gradients(ours, network, torch.device("cpu")), CapturedGradients)


@pytest.mark.parametrize(("family", "activation"), NETWORKS)
def test_no_network_of_ours_waits_for_its_values(family: str, activation: str) -> None:
    """Which a graph could not record: with tensors that have no values, nothing can be decided by them."""
    network = build_network(family, depth=8, activation=activation).to("meta")
    loss, logits = eager_gradients(
        network, torch.empty(4, 3, 32, 32, device="meta"), torch.empty(4, device="meta").long()
    )
    assert logits.shape == (4, 10)
    assert loss.shape == ()
    assert all(parameter.grad is not None for parameter in network.parameters())


class FakeCuda:
    """In place of `torch.cuda`: notes what is called, in order, and on which stream."""

    def __init__(self, fails: bool) -> None:
        self.fails, self.current, self.calls = fails, "default", []

    def note(self, call: str) -> None:
        self.calls.append(f"{call} on {self.current}")

    @contextlib.contextmanager
    def device(self, device: torch.device):
        self.note(f"device {device}")
        yield

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: self.note(f"default waits for {other.name}"), name="default")

    def Stream(self):  # noqa: N802
        return SimpleNamespace(wait_stream=lambda other: self.note(f"side waits for {other.name}"), name="side")

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(replay=lambda: self.note("replay"))

    @contextlib.contextmanager
    def graph(self, graph, *, stream, capture_error_mode: str):
        before, self.current = self.current, stream.name
        self.note(f"capture {capture_error_mode}")
        yield
        if self.fails:
            raise RuntimeError("cannot end")  # and does not go back to the stream before, as torch does not
        self.current = before

    def set_stream(self, stream) -> None:
        self.current = stream.name

    def synchronize(self) -> None:
        self.note("synchronize")


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_follows_torchs_rules(monkeypatch, fails: bool) -> None:
    """Warm-ups on a side stream that waits and is waited for, nothing else in the capture, and back to where it was."""
    cuda = FakeCuda(fails)
    monkeypatch.setattr(torch, "cuda", cuda)

    def function() -> str:
        cuda.note("pass")
        return "result"

    if fails:
        with pytest.raises(RuntimeError, match="cannot end"):
            gradients._captured(function, torch.device("cuda:1"))
    else:
        result, replay = gradients._captured(function, torch.device("cuda:1"))
        assert result == "result"
    assert cuda.calls == [
        "device cuda:1 on default",
        "side waits for default on default",
        *["pass on side"] * 3,
        "default waits for side on default",
        "capture thread_local on side",
        "pass on side",
        "synchronize on default",
    ]
    if not fails:
        replay()
        assert cuda.calls[-1] == "replay on default"


@needs_gpu
@pytest.mark.parametrize(("family", "activation"), NETWORKS)
def test_a_cuda_graph_has_the_bits_of_its_operations(family: str, activation: str) -> None:
    """Updates by both, from one initialisation; the third batch is short."""
    prepare(threads=1)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (
            torch.randn(size, 3, 32, 32, generator=generator).cuda(),
            torch.randint(10, (size,), generator=generator).cuda(),
        )
        for size in (32, 32, 20, 32)
    ]
    torch.manual_seed(0)
    eager = build_network(family, depth=8, activation=activation).cuda().to(memory_format=torch.channels_last)
    captured = build_network(family, depth=8, activation=activation).cuda().to(memory_format=torch.channels_last)
    captured.load_state_dict(eager.state_dict())
    gradients_of = CapturedGradients(captured, 32)
    try:
        for inputs, labels in batches:
            results = eager_gradients(eager, inputs, labels), gradients_of(inputs, labels)
            for one, other in zip(*results, strict=True):
                assert torch.equal(one, other)
            with torch.no_grad():
                for network in (eager, captured):
                    for parameter in network.parameters():
                        parameter -= 0.1 * parameter.grad
            for one, other in zip(eager.state_dict().values(), captured.state_dict().values(), strict=True):
                assert torch.equal(one, other)
        assert gradients_of._replay is not None
    finally:
        torch.use_deterministic_algorithms(False)
