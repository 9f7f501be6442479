"""Files come in through the network: its hooks, tied weights, wrappers' names; nothing else than it takes, unsaid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reluscope.checkpoint_files.finding import CheckpointFile
from reluscope.checkpoint_files.loading import CheckpointFiles, load_state
from reluscope.checkpoint_files.manifest import describe
from reluscope.networks import build_network


def network(seed: int, width: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(9 * width, 2)
    )


class Tied(nn.Module):
    """An encoder and a decoder of one weight."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.decoder = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.decoder.weight = self.encoder.weight


def loaded(content: Any, target: nn.Module, tmp_path: Path) -> list[str]:
    torch.save(content, tmp_path / "step_1.pt")
    return load_state(str(tmp_path / "step_1.pt"), target)


def refused(content: Any, target: nn.Module, tmp_path: Path) -> str:
    """The line, without the file's name; nothing was loaded."""
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"step_1\.pt") as error:
        loaded(content, target, tmp_path)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    return str(error.value).removeprefix(str(tmp_path / "step_1.pt"))


def assert_same(one: nn.Module, two: nn.Module) -> None:
    states = one.state_dict(), two.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")  # whose names are those of all backends


WRAPPED: dict[str, Callable[[nn.Sequential], Any]] = {
    "DeepSpeed": lambda n: {"module": n.state_dict(), "global_steps": 5},
    "compiled in parallel": lambda n: prefixed("module._orig_mod.", n.state_dict()),
    "parallel, compiled": lambda n: prefixed("_orig_mod.module.", n.state_dict()),
    "Lightning, compiled": lambda n: {"state_dict": prefixed("model._orig_mod.", n.state_dict())},
    "twice": lambda n: {"model": prefixed("module.model.module.", n.state_dict())},
    "AveragedModel": lambda n: torch.optim.swa_utils.AveragedModel(n).state_dict(),
    "compiled": lambda n: compiled(n).state_dict(),
    "DataParallel": lambda n: nn.DataParallel(n).state_dict(),
    "a loss of its own": lambda n: {
        "state_dict": {**prefixed("model.", n.state_dict()), "criterion.weight": torch.ones(2)}
    },
    "a part compiled": lambda n: nn.Sequential(*[compiled(m) if i == 0 else m for i, m in enumerate(n)]).state_dict(),
    "a part in parallel": lambda n: nn.Sequential(
        *[nn.DataParallel(m) if i < 2 else m for i, m in enumerate(n)]
    ).state_dict(),
    "under another name": lambda n: {"state_dict": prefixed("backbone.", n.state_dict())},
    "both averaged and not": lambda n: {
        **prefixed("ema_model.", network(9).state_dict()),
        **prefixed("model.", n.state_dict()),
    },
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_in_any_nesting(wrap: Callable[[nn.Sequential], Any], tmp_path: Path) -> None:
    target, saved = network(2), network(1)
    loaded(wrap(saved), target, tmp_path)
    assert_same(target, saved)


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel], ids=["compiled", "parallel"])
def test_a_wrapped_network_takes_the_files_of_a_bare_one(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    target, saved = network(2), network(1)
    assert loaded(saved.state_dict(), wrap(target), tmp_path) == []
    assert_same(target, saved)


def test_what_the_network_does_not_take_is_said_in_one_line(tmp_path: Path) -> None:
    saved = network(1)
    averaged = torch.optim.swa_utils.AveragedModel(saved).state_dict()
    assert loaded(averaged, network(2), tmp_path) == ["the network does not take 1 tensor of the file: n_averaged"]
    more = {**saved.state_dict(), **{f"aux.{i}": torch.ones(1) for i in range(5)}}
    assert loaded(more, network(2), tmp_path) == [
        "the network does not take 5 tensors of the file: aux.0, aux.1, aux.2 and 2 more"
    ]
    assert loaded(prefixed("backbone.", saved.state_dict()), network(2), tmp_path) == [
        "the network is what the file has under 'backbone.'"
    ]
    assert loaded(prefixed("module.", saved.state_dict()), network(2), tmp_path) == []


def test_two_networks_in_a_file_are_not_chosen_between(tmp_path: Path) -> None:
    two = {**prefixed("encoder_q.", network(1).state_dict()), **prefixed("encoder_k.", network(3).state_dict())}
    line = refused(two, network(2), tmp_path)
    assert line == (
        ": holds all that the network needs under 'encoder_q.' and 'encoder_k.' alike; save the one that is meant alone"
    )
    two = {"model": network(1).state_dict(), "net": network(3).state_dict()}
    assert refused(two, network(2), tmp_path) == (
        ": holds parameters under model and net; save those that are meant alone"
    )
    one = {"model": network(1).state_dict(), "net": network(3, width=4).state_dict() | {"more": torch.ones(1)}}
    one["net"].pop("4.bias")
    target = network(2)
    loaded(one, target, tmp_path)
    assert_same(target, network(1))


def test_names_as_they_are_go_before_prefixes(tmp_path: Path) -> None:
    """A network beside a copy of it under a known prefix."""
    target = network(2)
    notes = loaded({**network(1).state_dict(), **prefixed("module.", network(3).state_dict())}, target, tmp_path)
    assert_same(target, network(1))
    assert notes[0].startswith("the network does not take 9 tensors of the file: module.0.weight")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
def test_old_weight_norm_comes_into_the_new_one(prefix: str, bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 4, bias=bias)), nn.ReLU())
    new = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4, bias=bias)), nn.ReLU())
    images = torch.randn(3, 5)
    assert not torch.equal(new(images), old(images))
    assert loaded(prefixed(prefix, old.state_dict()), new, tmp_path) == []
    torch.testing.assert_close(new(images), old(images))


class Renamed(nn.Linear):
    """A layer that was called otherwise once."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version", 1) < 2 and f"{prefix}kernel" in state_dict:
            state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel").T
        super()._load_from_state_dict(state_dict, prefix, metadata, *rest)

    _version = 2


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_modules_own_loading_knows_the_files_version(prefix: str, tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(3, 2)).state_dict()
    weight = state.pop("0.weight")
    state["0.kernel"] = weight.T.contiguous()
    for name in list(state):
        state[f"{prefix}{name}"] = state.pop(name)
    state._metadata = {f"{prefix}{path}".removesuffix("."): value for path, value in state._metadata.items()}
    target = nn.Sequential(Renamed(3, 2))
    loaded(state, target, tmp_path)
    assert torch.equal(target[0].weight, weight)
    state._metadata[f"{prefix}0"] = {"version": 2}
    assert "missing 0.weight [2, 3]; unexpected 0.kernel [3, 2]" in refused(
        state, nn.Sequential(Renamed(3, 2)), tmp_path
    )


def test_tied_weights_may_be_there_by_one_name(tmp_path: Path) -> None:
    saved = Tied(1)
    for kept in ("encoder.weight", "decoder.weight"):
        target = Tied(2)
        state = {name: t for name, t in saved.state_dict().items() if name in (kept, "decoder.bias")}
        assert loaded(state, target, tmp_path) == []
        assert_same(target, saved)
    target = Tied(2)
    save_model(saved, str(tmp_path / "step_2.safetensors"))  # which leaves one of them out
    assert load_state(str(tmp_path / "step_2.safetensors"), target) == []
    assert_same(target, saved)
    assert "missing encoder.weight [7, 4]" in refused({"decoder.bias": saved.decoder.bias}, Tied(3), tmp_path)
    shared = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    two = nn.Sequential(shared, shared)  # a module that is called twice
    assert loaded({name: t for name, t in two.state_dict().items() if name.startswith("0.")}, two, tmp_path) == []


def test_tied_weights_that_differ_are_refused(tmp_path: Path) -> None:
    state = {**Tied(1).state_dict(), "decoder.weight": Tied(2).decoder.weight}
    assert refused(state, Tied(3), tmp_path) == (
        ": encoder.weight and decoder.weight differ, but they are one tensor in the network (encoder.weight, "
        "decoder.weight)"
    )
    with_nan = Tied(1).state_dict()
    with_nan["encoder.weight"][0] = torch.nan
    with_nan["decoder.weight"] = with_nan["encoder.weight"].clone()
    assert loaded(with_nan, Tied(3), tmp_path) == []


def test_a_buffer_that_the_network_needs_is_not_made_up(tmp_path: Path) -> None:
    target = nn.Linear(2, 2)
    target.register_buffer("mask", torch.ones(2))
    line = refused(nn.Linear(2, 2).state_dict(), target, tmp_path)
    assert line == " does not fit the network: missing mask [2]"


@pytest.mark.parametrize(
    ("dtype", "line"),
    [
        (torch.int8, "0.weight int8 instead of float32; 0.bias int8 instead of float32"),
        (torch.complex64, "0.weight complex64 instead of float32; 0.bias complex64 instead of float32"),
        (torch.float8_e4m3fn, "0.weight float8_e4m3fn instead of float32; 0.bias float8_e4m3fn instead of float32"),
        (torch.bool, "0.weight bool instead of float32; 0.bias bool instead of float32"),
    ],
)
def test_another_kind_of_numbers_is_refused(dtype: torch.dtype, line: str, tmp_path: Path) -> None:
    state = {name: tensor.to(dtype) for name, tensor in nn.Sequential(nn.Linear(2, 2)).state_dict().items()}
    assert refused(state, nn.Sequential(nn.Linear(2, 2)), tmp_path) == f" does not fit the network: {line}"


@pytest.mark.parametrize(
    ("dtype", "notes"),
    [(torch.bfloat16, []), (torch.float16, []), (torch.float64, ["float64 is rounded to the network's float32"])],
)
def test_another_precision_is_the_networks_and_said_where_it_rounds(
    dtype: torch.dtype, notes: list[str], tmp_path: Path
) -> None:
    target, saved = network(2), network(1).to(dtype)
    assert loaded(saved.state_dict(), target, tmp_path) == notes
    assert torch.equal(target[0].weight, saved[0].weight.float())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sparse_tensors_are_filled_and_others_without_plain_values_refused(tmp_path: Path) -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    for sparse in (weight.to_sparse(), weight.to_sparse_csr(), weight.to_sparse_csc()):
        target = nn.Linear(2, 2, bias=False)
        assert loaded({"weight": sparse}, target, tmp_path) == []
        assert torch.equal(target.weight, weight)
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (1 << 40, 1 << 20))
    odd = {
        "weight without values (of the device meta) instead of float32": torch.empty(2, 2, device="meta"),
        "weight qint8 instead of float32": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "weight nested instead of float32": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "weight sparse_coo float32 instead of float32": huge,
    }
    for line, tensor in odd.items():
        found = refused({"weight": tensor}, nn.Linear(2, 2, bias=False), tmp_path)
        assert found == f" does not fit the network: {line}"
    foreign = {"weight": weight, **{f"other{i}": tensor for i, tensor in enumerate(odd.values())}}
    assert loaded(foreign, nn.Linear(2, 2, bias=False), tmp_path)[0].startswith("the network does not take 4 tensors")


def test_a_network_without_values_is_refused_as_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meta_network.py").write_text(
        "from torch import nn\ndef on_meta():\n    return nn.Sequential(nn.Linear(2, 2, device='meta'), nn.ReLU())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"on_meta: the network's 0\.weight has no values \(of the device meta\); build"
    ):
        build_network("meta_network:on_meta")


def test_a_lazy_network_is_given_its_shapes(tmp_path: Path) -> None:
    target = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    assert loaded(prefixed("module.", network(1).state_dict()), target, tmp_path) == []
    assert_same(target, network(1))


class Closed(nn.Linear):
    """A module that raises what it likes, and one that tells nothing."""

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> None:  # type: ignore[override]
        if self.out_features == 3:
            raise KeyError("this one\nonly")
        super().load_state_dict(state_dict, strict)


def test_what_a_network_raises_is_one_line(tmp_path: Path) -> None:
    assert "does not fit the network: 'this one\\nonly'" in refused(Closed(2, 3).state_dict(), Closed(2, 3), tmp_path)
    target, saved = Closed(2, 2), Closed(2, 2)
    assert loaded(saved.state_dict(), target, tmp_path) == []
    assert_same(target, saved)
    assert "missing bias [2]" in refused({"weight": torch.ones(2, 2)}, Closed(2, 2), tmp_path)


def test_what_is_true_of_many_files_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for step in (1, 2, 3):
        save_file({**network(step).state_dict(), "more": torch.ones(1)}, tmp_path / f"step_{step}.safetensors")
        found.append(CheckpointFile(step, str(tmp_path / f"step_{step}.safetensors")))
    files, target = CheckpointFiles(describe(found, "x", {})), network(9)
    for step in (1, 2, 3):
        files.load_into(target, step)
    assert_same(target, network(3))
    assert capsys.readouterr().out == (
        f"{tmp_path}/step_1.safetensors: the network does not take 1 tensor of the file: more\n"
    )
