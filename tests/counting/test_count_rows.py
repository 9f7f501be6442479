"""Layers whose rows are not one for each image, in order: exact totals, and classes where these are known."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope import PatternRecorder, count_patterns, measures, open_counts
from reluscope.patterns import PatternCounts
from reluscope.preactivations.warned import CountingWarning

ENGINES = ["numpy", "numba", "torch"]


class Shared(nn.Module):
    """One trunk over what is made of the images, all together."""

    def __init__(self, together: Callable[[Tensor], Tensor], norm: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5) if norm else nn.Identity()
        self.relu = nn.ReLU()
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(self.together(x))))


def by_expert(x: Tensor) -> Tensor:
    return x[x.mean((1, 2, 3)).argsort()]


def windows(x: Tensor) -> Tensor:
    """Four quarters of each image, one after the other."""
    return x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


ORDERS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # and whether rows lie image by image
    "as they are": (lambda x: x, True),
    "each twice": (lambda x: x.repeat_interleave(2, 0), True),
    "windows": (windows, True),
    "in pairs": (lambda x: torch.stack([x, x.flip(3)], 1).flatten(0, 1), True),
    "siamese": (lambda x: torch.cat([x, x.flip(3)]), True),
    "two crops": (lambda x: torch.cat([x[..., :5], x[..., 3:]]), True),
    "siamese, with the next": (lambda x: torch.cat([x, x.roll(1, 0)]), False),
    "with their neighbours": (lambda x: torch.cat([x, x.roll(1, 0)], 3), False),
    "rolled": (lambda x: x.roll(1, 0), False),
    "turned round": (lambda x: x.flip(0), False),
    "first two exchanged": (lambda x: torch.cat([x[:2].flip(0), x[2:]]), False),
    "by expert": (by_expert, False),
    "with twins": (lambda x: torch.cat([x, x.flip(0)]), False),
    "shuffled": (lambda x: x[torch.randperm(len(x))], False),
}


def keys_of(rows: Tensor) -> Counter[int]:
    """Of pre-activations [rows, channels, height, width]."""
    bits = (rows > 0).movedim(1, -1).flatten(0, -2).numpy()
    return Counter((bits << np.arange(bits.shape[1])).sum(1).tolist())


def as_counter(counts: PatternCounts) -> Counter[int]:
    return Counter(dict(zip(counts.keys.tolist(), counts.counts.tolist(), strict=True)))


def _by_image(rows: Tensor, num_images: int, one_view_after_the_other: bool) -> Tensor:
    """[images, rows of an image, channels, height, width]."""
    if one_view_after_the_other:
        return rows.unflatten(0, (-1, num_images)).transpose(0, 1)
    return rows.unflatten(0, (num_images, -1))


@pytest.mark.filterwarnings("ignore::reluscope.preactivations.warned.CountingWarning")
@pytest.mark.parametrize("black", [False, True], ids=["", "black borders"])
@pytest.mark.parametrize("order", ORDERS)
def test_classes_are_counted_where_rows_lie_image_by_image(order: str, black: bool) -> None:
    together, image_by_image = ORDERS[order]
    torch.manual_seed(1)
    network, images, labels = Shared(together), torch.randn(14, 3, 8, 8), torch.arange(14) % 3
    if black:
        images[:, :, :4] = 0
    (counts,) = count_patterns(network, images, 6)
    if order != "shuffled":
        with torch.no_grad():
            batches = [network.norm(network.conv(together(batch))) for batch in images.split(6)]
        assert as_counter(counts) == sum((keys_of(batch) for batch in batches), Counter())
    if not image_by_image:
        with pytest.raises(
            ValueError, match=r"^Layer 'relu': its positions do not lie image by image, .* per class; excl"
        ):
            count_patterns(network, images, 6, labels=labels)
        return
    (by_class,) = count_patterns(network, images, 6, labels=labels)
    for label in range(3):
        rows = [
            _by_image(batch, len(part), order in ("siamese", "two crops"))[part == label].flatten(0, 1)
            for batch, part in zip(batches, labels.split(6), strict=True)
        ]
        assert as_counter(by_class.of_class(label)) == keys_of(torch.cat(rows))
    assert by_class.height * by_class.width * len(images) == by_class.num_positions


@pytest.mark.parametrize(("order", "height"), [("windows", 16), ("as they are", 8), ("siamese", 16), ("with twins", 0)])
def test_height_and_width_are_those_of_an_image_or_not_given(order: str, height: int) -> None:
    network = Shared(ORDERS[order][0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (counts,) = count_patterns(network, torch.randn(14, 3, 8, 8), 6)
    assert counts.height == height
    assert [str(each.message) for each in caught] == (
        []
        if height
        else [
            "positions do not lie image by image, or not as many for each, so that height and width are given as 0; "
            "layers and positions in all: 'relu (1,792)'"
        ]
    )


def test_a_network_that_takes_one_size_of_batch_says_that_nothing_was_shown() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.view(6, 2, 3).sum(1))

    images, labels = torch.randn(12, 6), torch.arange(12) % 2
    with pytest.warns(CountingWarning, match="^the network takes no batch of 4 images, so that it cannot be shown"):
        (counts,) = count_patterns(Fixed(), images, 6, labels=labels)
    assert counts.of_class(0).num_positions == 6


class Experts(nn.Module):
    """Each token goes through two of three experts, which see their tokens alone."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(3))

    def chosen(self, tokens: Tensor) -> list[Tensor]:
        top = self.gate(tokens).topk(2).indices
        return [(top == i).any(1).nonzero()[:, 0] for i in range(3)]

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        mixed = torch.zeros_like(tokens)
        for expert, index in zip(self.experts, self.chosen(tokens), strict=True):
            if len(index):
                mixed = mixed.index_add(0, index, expert(tokens[index]))
        return mixed.view_as(x)


@pytest.mark.parametrize("engine", ENGINES)
def test_experts_are_counted_at_the_positions_that_they_see(engine: str) -> None:
    torch.manual_seed(2)
    network, images = Experts(), torch.randn(14, 7, 6)
    images[12:] -= 3 * network.gate.weight[0].detach()  # in the last batch the first expert sees nothing
    tokens = images.flatten(0, 1)
    with pytest.warns(CountingWarning, match=r"^positions do not lie image by image, .*'experts\.0\.1 \("):
        counts = count_patterns(network, images, 6, engine=engine, buffer_bytes=100)
    with torch.no_grad():
        rows = [expert[0](tokens[index]) for expert, index in zip(network.experts, network.chosen(tokens), strict=True)]
    assert [as_counter(layer) for layer in counts] == [keys_of(each[..., None, None]) for each in rows]
    assert [layer.num_positions for layer in counts] == [len(each) for each in rows]
    assert {(layer.height, layer.width) for layer in counts} == {(0, 0)}
    for batch_size in (1, 6):
        with pytest.raises(
            ValueError, match=r"^Layer 'experts\.0\.1': its positions do not lie image by image, or not"
        ):
            count_patterns(network, images, batch_size, engine=engine, labels=torch.arange(14))


@pytest.mark.filterwarnings("ignore::reluscope.preactivations.warned.CountingWarning")
@pytest.mark.parametrize("sample", [None, "1/2"])
def test_a_store_keeps_positions_that_change_from_step_to_step(sample: str | None, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network, images = Experts(), torch.randn(14, 7, 6)
    expected, paths = [], []
    for shard in range(2):
        paths.append(tmp_path / f"{shard}.zarr")
        with PatternRecorder(network, images, paths[-1], batch_size=6, sample=sample) as recorder:
            for step in (0, 1):
                recorder.record(2 * shard + step)
                recorder.save()
                expected.append(count_patterns(network, images, 6))
                nn.init.normal_(network.gate.weight)
    store = open_counts(*paths)
    assert store.height.tolist() == store.num_positions.tolist() == [0, 0, 0]
    for index, layers in enumerate(expected):
        for layer, counts in enumerate(layers):
            stored = store.at(index, layer)
            assert stored.num_positions == counts.num_positions
            assert measures.relative_entropy(stored) == measures.relative_entropy(counts)
            assert as_counter(stored.sample) == as_counter(counts if sample is None else counts.sampled(2).sample)
    assert len({counts[0].num_positions for counts in expected}) > 1
    (one,) = count_patterns(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), images, 6)
    assert (one.height, one.num_positions) == (7, 98)


@pytest.mark.parametrize("rows", [4, 5, 6, 7, 12])
def test_a_relu_of_weights_is_no_layer(rows: int) -> None:
    class Positive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.relu = nn.Parameter(torch.randn(rows, 6)), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(F.linear(x, self.relu(self.weight)))

    with pytest.warns(CountingWarning, match=r"\('relu \(ReLU\)': its input does not depend on the images\)"):
        (counts,) = count_patterns(Positive(), torch.randn(14, 6), 6)
    assert (counts.layer_name, counts.num_positions) == ("relu_1", 14)
    (counts,) = count_patterns(Positive(), torch.randn(14, 6), 6, exclude="relu")
    assert counts.num_positions == 14


def test_all_layers_of_weights_are_named_at_once() -> None:
    class Positive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = (nn.Sequential(nn.Embedding(5, 6), nn.ReLU()) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            index = torch.arange(5)
            return torch.relu(x @ (self.one(index) + self.two(index)).t())

    with pytest.warns(CountingWarning, match=r"\('one\.1 \(ReLU\)', 'two\.1 \(ReLU\)': its input does not depend"):
        (counts,) = count_patterns(Positive(), torch.randn(14, 6), 6)
    assert counts.num_positions == 14
    (counts,) = count_patterns(Positive(), torch.randn(14, 6), 6, exclude=["one.1", "two.1"])
    assert counts.num_positions == 14


def test_inside_a_transform_a_layer_is_counted_or_refused() -> None:
    class Transformed(nn.Module):
        def __init__(self, transform: Any) -> None:
            super().__init__()
            self.linear, self.transform = nn.Linear(6, 5), transform

        def forward(self, x: Tensor) -> Tensor:
            return self.transform(lambda each: torch.relu(self.linear(each)))(x)

    torch.manual_seed(0)
    images = torch.randn(9, 6)
    mapped = Transformed(torch.func.vmap)
    with pytest.raises(
        ValueError, match=r"^Layer 'relu': its input lies inside torch.func.vmap, where it cannot be read"
    ):
        count_patterns(mapped, images, 4)
    derived = Transformed(lambda function: lambda x: torch.func.vjp(function, x)[0])
    (counts,) = count_patterns(derived, images, 4)
    assert as_counter(counts) == keys_of(derived.linear(images)[..., None, None])


class OneByOne(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((6,), float(index))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.utils.data.DataLoader(OneByOne()),
            r"but got DataLoader; give what it loads as one tensor, such as torch.c",
        ),
        (OneByOne(), r"but OneByOne\[0:4\] raised TypeError.*; give such a tensor"),
        (
            torch.utils.data.TensorDataset(torch.ones(9, 6)),
            "slices to be tensors, but got tuple; give the images alone",
        ),
        ({"input": torch.ones(9, 6)}, "but got dict; give one tensor, and a module around the network"),
        (np.ones((9, 6), np.float32), r"slices to be tensors, but got ndarray; give torch.from_numpy\(images\)"),
        ([torch.ones(6)] * 9, r"slices to be tensors, but got list; give torch.stack\(images\)"),
        (iter([torch.ones(6)]), "but got list_iterator; give such a tensor"),
    ],
)
def test_images_that_are_none_are_refused_with_what_to_give(images: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        count_patterns(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), images, 4)
    assert str(caught.value).startswith("images: expected ")
    assert "\n" not in str(caught.value)


def test_networks_that_are_not_ready_are_refused() -> None:
    images = torch.randn(9, 6)
    with pytest.raises(
        ValueError, match=r"^network: '0\.weight' gets its shape with the first forward pass, and there w"
    ):
        count_patterns(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), images)
    with pytest.raises(ValueError, match=r"^network: '0\.weight' is on the meta device, where tensors have no content"):
        count_patterns(nn.Sequential(nn.Linear(6, 3, device="meta"), nn.ReLU()), images)
    with pytest.raises(TypeError, match=r"^network: expected a torch\.nn\.Module, but got builtin_function_or_method"):
        count_patterns(torch.relu, images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^network: expected to be counted outside of torch\.func's transforms"):
        torch.func.vmap(lambda image: count_patterns(nn.ReLU(), image)[0].counts)(images)
