"""Counts are of the network as it was found, in every batch; and it, the images and the random states stay so."""

from __future__ import annotations

import itertools
import pickle
import random
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope import count_patterns
from reluscope.patterns import PatternCounts
from reluscope.preactivations import tensor_contents
from reluscope.preactivations.warned import CountingWarning


class Part(nn.Module):
    """A linear layer, and a ReLU of what `change` makes of it; it may change the module."""

    def __init__(self, change: Callable[[Any, Tensor], Tensor], **attributes: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.change(self, x))


class Box:
    def __init__(self) -> None:
        self.steps, self.last = 0, None


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


def max_norm_by_data(part: Part, x: Tensor) -> Tensor:
    part.linear.weight.data = part.linear.weight.data.renorm(2, 0, 0.1)
    return part.linear(x)


def scale_in_place(part: Part, x: Tensor) -> Tensor:
    part.linear.weight.mul_(0.7)
    return part.linear(x)


def momentum_encoder(part: Part, x: Tensor) -> Tensor:
    for slow, fast in zip(part.slow.parameters(), part.linear.parameters(), strict=True):
        slow.data.mul_(0.9).add_(fast.data, alpha=0.1)
    return part.slow(x)


def embed(part: Part, x: Tensor) -> Tensor:
    return part.linear(part.embedding((x.abs() * 10).long().clamp(max=29)[:, 0]))


def spike(part: Part, x: Tensor) -> Tensor:
    part.potential = 0.9 * part.potential + part.linear(x).mean(0)
    part.fired = part.fired + int((part.potential > 0).sum())
    return part.linear(x) + part.potential + part.fired


def lstm_state(part: Part, x: Tensor) -> Tensor:
    hidden, cell = part.cell(x, tuple(each.expand(len(x), -1) for each in part.state))
    part.state = (hidden.mean(0, keepdim=True), cell.mean(0, keepdim=True))
    return hidden


def remember(part: Part, x: Tensor) -> Tensor:
    y = part.linear(x)
    part.memory.append(y.mean(0))
    part.seen["all"].append(len(part.memory))
    part.kinds.add(len(part.seen["all"]))
    part.array += 1
    part.box.steps += 1
    part.box.last = x
    part.slotted.value += 0.5
    return y + sum(part.memory) + sum(part.seen["all"]) + float(part.array.sum()) + part.box.steps + part.slotted.value


def appear_and_vanish(part: Part, x: Tensor) -> Tensor:
    y = part.linear(x) + (1 if hasattr(part, "extra") else 0) + (0 if hasattr(part, "goes") else 1)
    part.extra = y
    part.register_buffer("late", torch.ones(3), persistent=False)
    part.added = nn.Linear(2, 2)
    part.register_forward_hook(lambda *_: None)
    part.linear.weight.requires_grad_(False)
    part.linear.weight.grad = None
    part.linear.bias.grad.zero_()
    part.train()
    if hasattr(part, "goes"):
        del part.goes
    return y


def share_a_view(part: Part, x: Tensor) -> Tensor:
    part.view.add_(1)
    return part.linear(x) + part.whole.sum() + part.hidden.add_(1).sum()


def draw_from_its_own(part: Part, x: Tensor) -> Tensor:
    noise = torch.rand(8, generator=part.of_torch) + part.of_numpy.random() + part.of_python.random()
    return part.linear(x) + noise


def network_of(kind: str) -> Part:
    torch.manual_seed(0)
    whole = torch.zeros(2, 3)
    kinds: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any]]] = {
        "max-norm by .data": (max_norm_by_data, {}),
        "in place": (scale_in_place, {}),
        "momentum encoder": (momentum_encoder, {"slow": nn.Linear(6, 8)}),
        "embedding with max_norm": (embed, {"embedding": nn.Embedding(30, 6, max_norm=0.5)}),
        "spiking": (spike, {"potential": torch.zeros(8), "fired": 0}),
        "lstm state": (lstm_state, {"cell": nn.LSTMCell(6, 8), "state": (torch.zeros(1, 8), torch.zeros(1, 8))}),
        "memories": (
            remember,
            {"memory": deque(maxlen=3), "seen": {"all": [1]}, "kinds": {0}, "array": np.zeros(3)}
            | {"box": Box(), "slotted": Slotted()},
        ),
        "attributes that come and go": (appear_and_vanish, {"goes": 1}),
        "views": (share_a_view, {"view": whole[0], "whole": whole, "hidden": [torch.zeros(2)][0].expand(2)}),
        "own generators": (
            draw_from_its_own,
            {"of_torch": torch.Generator().manual_seed(1), "of_numpy": np.random.default_rng(2)}
            | {"of_python": random.Random(3)},
        ),
    }
    change, attributes = kinds[kind]
    network = Part(change, **attributes)
    network.linear(torch.ones(2, 6)).sum().backward()
    return network


KINDS = ["max-norm by .data", "in place", "momentum encoder", "embedding with max_norm", "spiking", "lstm state"]
KINDS += ["memories", "attributes that come and go", "views", "own generators"]


def as_found(network: nn.Module) -> Any:
    """All that can be told of a network: contents, identities, versions, modes, hooks."""

    def told(value: Any) -> Any:
        if isinstance(value, Tensor):
            own = value.detach().clone(), value.requires_grad, value._version, value.data_ptr()
            return [id(value), str(own), told(value.grad) if value.is_leaf else None]
        if isinstance(value, torch.Generator):
            return str(value.get_state().tolist())
        if isinstance(value, nn.Module):
            return [id(value), told(vars(value))]
        if isinstance(value, Box):
            return told(vars(value))
        if isinstance(value, Slotted):
            return value.value
        if isinstance(value, dict):
            return [(key, told(each)) for key, each in value.items()]
        if isinstance(value, list | tuple | deque):
            return [told(each) for each in value]
        return value if callable(value) else pickle.dumps(value)

    return told(network)


def assert_same(one: list[PatternCounts], other: list[PatternCounts]) -> None:
    assert [layer.layer_name for layer in one] == [layer.layer_name for layer in other]
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours.keys, theirs.keys)
        np.testing.assert_array_equal(ours.counts, theirs.counts)


@pytest.mark.parametrize("copied_bytes", [1 << 28, 64], ids=["copied", "too large to be copied"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::reluscope.preactivations.warned.CountingWarning")
def test_every_batch_meets_the_network_as_found(kind: str, copied_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_contents, "COPIED_BYTES", copied_bytes)
    network, images = network_of(kind), torch.randn(20, 6, generator=torch.Generator().manual_seed(5))
    before = as_found(network)
    counts = count_patterns(network, images, 4)
    if kind != "memories" or copied_bytes > 64:  # NumPy's writes are seen by nobody
        assert as_found(network) == before
        assert_same(count_patterns(network, images, 4), counts)
    alone = [network_of(kind).train() for _ in range(5)]  # each batch by a network of its own
    rows = []
    for own, batch in zip(alone, images.split(4), strict=True):
        own.linear.bias.grad = torch.ones(8)
        with torch.no_grad():
            rows.append(own.change(own, batch) > 0)
    keys, numbers = np.unique((torch.cat(rows).numpy() << np.arange(8)).sum(1), return_counts=True)
    if kind != "memories" or copied_bytes > 64:
        np.testing.assert_array_equal(counts[0].keys, keys)
        np.testing.assert_array_equal(counts[0].counts, numbers)


def test_a_large_tensor_that_only_a_later_batch_changes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(part: Part, x: Tensor) -> Tensor:
        if x[0, 0] == 9:
            part.linear.weight.mul_(2)
        return part.linear(x)

    images = torch.randn(8, 6)
    images[4, 0] = 9
    network = Part(change)
    before = as_found(network)
    count_patterns(network, images, 4)
    assert as_found(network) == before
    monkeypatch.setattr(tensor_contents, "COPIED_BYTES", 64)
    with pytest.raises(ValueError, match=r"^'linear\.weight': a later batch changed it, where the first did not"):
        count_patterns(network, images, 4)


def test_what_cannot_be_put_back_is_named() -> None:
    def change(part: Part, x: Tensor) -> Tensor:
        return part.linear(x) + next(part.counter)

    network = nn.Sequential(nn.Identity(), Part(change, counter=itertools.count(), unchanged=itertools.count()))
    with pytest.warns(CountingWarning) as caught:
        count_patterns(network, torch.randn(8, 6), 4)
    (line,) = [str(each.message) for each in caught]
    assert line.startswith("the forward pass changes what cannot be put back: '1.counter (count)'; the network is not")
    assert caught[0].filename == __file__


def test_a_training_goes_on_over_a_count() -> None:
    """A backward pass that is still to come finds the versions that it saved."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(30, 6, max_norm=0.5), nn.Linear(6, 8), nn.ReLU()).eval()
    tokens = torch.arange(30)
    loss = (network(tokens) ** 2).sum() + network[1].weight.square().sum()
    count_patterns(network, tokens, 10)
    loss.backward()
    assert network[0].weight.grad is not None


@pytest.mark.parametrize("shared", ["tensor", "array", "object"])
def test_images_are_not_written_to(shared: str) -> None:
    class Cached:
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, item: slice) -> Tensor:
            return self.images[item]

    array = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    images: Any = torch.from_numpy(array)
    images = {"tensor": images.clone(), "array": images, "object": Cached(images)}[shared]
    network = Part(lambda part, x: part.linear(x.sub_(0.4)))
    before = array.copy()
    counts = count_patterns(network, images, 8, labels=np.arange(20) % 2)
    np.testing.assert_array_equal(array, before)
    assert_same(count_patterns(network, images, 8, batches_at_once=2), counts)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda part, x: F.dropout(part.linear(x)), "'0', 'Sequential'"),
        (lambda part, x: part.linear(x) + random.random(), "'0', 'Sequential'"),
        (lambda part, x: part.linear(x) + np.random.rand(), "'0', 'Sequential'"),  # noqa: NPY002
        (draw_from_its_own, "'Sequential', '0.of_numpy', '0.of_python', '0.of_torch'"),
        (lambda part, x: part.linear(x), "'Sequential'"),
    ],
)
def test_random_numbers_are_told_with_the_modules_that_draw_them(change: Any, names: str) -> None:
    class Root(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.rand(1)

    attributes = {name: getattr(network_of("own generators"), name) for name in ("of_torch", "of_numpy", "of_python")}
    network, images = Root(Part(change, **attributes), nn.Dropout()), torch.randn(10, 6)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with pytest.warns(CountingWarning) as caught:
        counts = count_patterns(network, images, 4)
    assert [str(each.message) for each in caught] == [
        f"the forward pass draws random numbers, in {names.replace('Sequential', 'Root')}: the counts are those of one "
        "draw, and others of another"
    ]
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(count_patterns(network, images, 4), counts)
        count_patterns(nn.Sequential(nn.Dropout(), nn.RReLU()), images, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is drawn in counting mode
        count_patterns(nn.Sequential(nn.Dropout(), nn.RReLU()), images, 4)


def test_more_objects_than_are_looked_at_are_told() -> None:
    network = Part(lambda part, x: part.linear(x), much=[[i] for i in range(30_000)])
    with pytest.warns(CountingWarning, match="^the network's attributes lead to more than 20,000 objects: what a for"):
        count_patterns(network, torch.randn(8, 6), 4)
    deep = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3_000)), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_patterns(deep, torch.randn(2, 6))
