"""Counts per class: every engine agrees with counting each class's images by themselves, and adds up to all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines import CPU, DEVICES, ENGINE_NAMES
from torch import Tensor, nn

from reluscope import build_network, count_patterns
from reluscope.counting.engines import counter_type
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import MOST_CLASSES, PatternCounts


class Preset(nn.Module):
    """Its layers' pre-activations are parts of the images: each image shows the same in any batch."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.channels, self.relus = channels, nn.ModuleList(nn.ReLU() for _ in channels)

    def forward(self, images: Tensor) -> None:
        for values, relu in zip(images.split(self.channels, dim=1), self.relus, strict=True):
            relu(values)


CHANNELS = (3, 16, 20, 40, 64, 70)


def some_images(random: np.random.Generator, number: int) -> Tensor:
    """Few patterns, so that classes share some."""
    patterns = random.choice([-1.0, 1.0], (8, sum(CHANNELS)))
    chosen = patterns[random.integers(0, 8, (number, 2, 3))]
    chosen[random.random(chosen.shape) < 0.002] *= -1
    return torch.from_numpy(np.moveaxis(chosen, -1, 1).copy()).float()


def assert_same(one: PatternCounts, other: PatternCounts) -> None:
    assert one.keys.dtype == other.keys.dtype
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.counts, other.counts)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(*name.values, marks=[*name.marks, *[pytest.mark.slow] * (name.values[0] == "triton")])
        for name in ENGINE_NAMES
        if name.values[0] != "hash"  # which counts classes by the code of "triton"
    ],
)
@pytest.mark.parametrize("buffer_bytes", [1, 1 << 20])
@settings(deadline=None, max_examples=4)
@given(st.integers(0, 2**32))
def test_classes_are_the_counts_of_their_images(engine: str, buffer_bytes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    network, images = Preset(*CHANNELS), some_images(random, 20)
    labels = random.choice([0, 1, 4], 20)
    labels[0] = 4
    settings = {"batch_size": 6, "engine": engine, "buffer_bytes": buffer_bytes}
    device = DEVICES.get(engine, CPU)
    network, images = network.to(device), images.to(device)
    together = count_patterns(network, images, **settings)
    for everything, layer in zip(together, count_patterns(network, images, labels=labels, **settings), strict=True):
        assert_same(layer, everything)
        assert layer.counts.dtype == np.int64
        assert layer.classes is not None
        assert layer.classes.num_classes == 5
        assert layer.classes.num_positions.tolist() == (np.bincount(labels) * 6).tolist()
    for label in np.unique(labels).tolist():
        alone = count_patterns(network, images[torch.from_numpy(labels == label)], engine="numpy")
        of_all = count_patterns(network, images, labels=torch.from_numpy(labels), **settings)
        for layer, expected in zip(of_all, alone, strict=True):
            assert_same(layer.of_class(label), expected)
    assert len(of_all[0].of_class(2).keys) == 0


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_hand_computed(engine: str) -> None:
    """Four images of one position: patterns 0, 2, 5 and 5 of the classes 1, 0, 1 and 0."""
    device = DEVICES.get(engine, CPU)
    values = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 1.0, 0.0], [1.0, -1.0, 1.0], [1.0, -1.0, 1.0]], device=device)
    (counts,) = count_patterns(nn.ReLU().to(device), values, engine=engine, labels=[1, 0, 1, 0])
    assert (counts.keys.tolist(), counts.counts.tolist()) == ([0, 2, 5], [1, 1, 2])
    assert counts.classes is not None
    assert counts.classes.num_classes_of.tolist() == [1, 1, 2]
    assert counts.classes.index.tolist() == [1, 0, 0, 1]
    assert counts.classes.counts.tolist() == [1, 1, 1, 1]
    assert counts.classes.index.dtype == np.uint8


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("num_classes", [255, 256, 300])
def test_a_pattern_of_as_many_classes_as_a_byte_holds_and_more(engine: str, num_classes: int) -> None:
    device = DEVICES.get(engine, CPU)
    values = torch.ones(num_classes, 20, device=device)
    (counts,) = count_patterns(nn.ReLU().to(device), values, engine=engine, labels=np.arange(num_classes))
    assert counts.classes is not None
    assert counts.classes.num_classes_of.tolist() == [num_classes]
    assert counts.classes.index.tolist() == list(range(num_classes))
    assert counts.counts.tolist() == [num_classes]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_the_highest_bit_sorts_last_in_every_class(engine: str) -> None:
    device = DEVICES.get(engine, CPU)
    values = -torch.ones(4, 64, device=device)
    values[0, 63] = values[1, 63] = values[2, 0] = 1
    (counts,) = count_patterns(nn.ReLU().to(device), values, engine=engine, labels=[0, 1, 1, 0])
    assert counts.keys.tolist() == [0, 1, 2**63]
    assert counts.classes is not None
    assert counts.classes.index.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_shuffled_labels_keep_positions_of_an_image_together(engine: str) -> None:
    """What they give is what counting with some order of the labels gives, the same on every engine."""
    device = DEVICES.get(engine, CPU)
    network, images = Preset(*CHANNELS).to(device), some_images(np.random.default_rng(5), 12).to(device)
    labels = np.arange(12) % 3
    settings = {"batch_size": 5, "engine": engine, "labels": labels}
    shuffled = [c.shuffled_joint_entropy for c in count_patterns(network, images, shuffled_labels=True, **settings)]
    order = np.random.PCG64(0x4C41424C).random_raw(12).argsort()
    expected = count_patterns(Preset(*CHANNELS), images.cpu(), engine="numpy", labels=labels[order])
    assert shuffled == pytest.approx([_joint_entropy(layer) for layer in expected])
    assert all(layer.shuffled_joint_entropy is None for layer in count_patterns(network, images, **settings))


def _joint_entropy(layer: PatternCounts) -> float:
    assert layer.classes is not None
    shares = layer.classes.counts / layer.classes.counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def test_a_whole_network_counts_the_same_with_labels() -> None:
    network = build_network("resnet8", in_channels=1, num_classes=10)
    images = torch.randn(70, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(70) % 10
    for all_of_it, by_class in zip(
        count_patterns(network, images, 32), count_patterns(network, images, 32, labels=labels), strict=True
    ):
        assert_same(by_class, all_of_it)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_no_positions_are_no_patterns(engine: str) -> None:
    device = DEVICES.get(engine, CPU)
    buffers = KeyBuffers(2, 1)
    counter = counter_type(engine, device)(20, device, buffers)
    for _ in range(2):
        counter.add(torch.empty(3, 20, 0, 2, device=device), np.array([[0, 1, 0]]))
        buffers.end_batch()
    keys, classes = counter.result_by_class(2)
    assert (len(keys), len(classes.counts), len(classes.totals)) == (0, 0, 0)


def test_bad_labels_are_refused() -> None:
    network, images = nn.ReLU(), torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 3 images, but got shape \[2\]"):
        count_patterns(network, images, labels=[0, 1])
    with pytest.raises(TypeError, match="labels: expected whole numbers, but got float64"):
        count_patterns(network, images, labels=[0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="labels: expected classes from 0 to 65534, but got -1 to 1"):
        count_patterns(network, images, labels=[0, -1, 1])
    with pytest.raises(ValueError, match=f"but got 0 to {MOST_CLASSES}"):
        count_patterns(network, images, labels=[0, MOST_CLASSES, 1])
    with pytest.raises(ValueError, match="shuffled_labels: expected labels, but got none"):
        count_patterns(network, images, shuffled_labels=True)


class Sequences(nn.Module):
    """One layer of [n, tokens, features], whose axes lie as asked for."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.relu = how, nn.ReLU()

    def forward(self, tokens: Tensor) -> None:
        match self.how:
            case "images first":
                self.relu(tokens)
            case "tokens first":
                self.relu(tokens.transpose(0, 1))
            case "windows of two tokens":
                self.relu(tokens.unflatten(1, (-1, 2)).flatten(0, 1))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("how", ["images first", "tokens first", "windows of two tokens"])
@pytest.mark.parametrize(
    ("num_images", "batch_size"),
    [
        (11, 5),
        (16, 10),  # as many images in the last batch as tokens
        (12, 5),  # as many as a window has tokens
        (9, 4),  # one
    ],
)
def test_the_label_of_a_position_is_that_of_its_image(num_images: int, batch_size: int, how: str, engine: str) -> None:
    tokens = torch.randn(num_images, 6, 5, generator=torch.Generator().manual_seed(0))
    labels = np.arange(num_images) * 7 % 3
    (counts,) = count_patterns(Sequences(how), tokens, batch_size, labels=labels, channel_axis=-1, engine=engine)
    for label in range(3):
        bits = (tokens[labels == label] > 0).flatten(0, 1).numpy()
        keys, numbers = np.unique((bits << np.arange(5)).sum(axis=1), return_counts=True)
        np.testing.assert_array_equal(counts.of_class(label).keys, keys)
        np.testing.assert_array_equal(counts.of_class(label).counts, numbers)


@pytest.mark.parametrize("how", ["images first", "tokens first"])
def test_which_of_two_equal_axes_holds_the_images_is_found_out(how: str) -> None:
    tokens, labels = torch.randn(20, 6, 5), np.arange(20) % 3
    (counts,) = count_patterns(Sequences(how), tokens, batch_size=6, labels=labels)
    (expected,) = count_patterns(Sequences(how), tokens, batch_size=7, labels=labels)
    for label in range(3):
        np.testing.assert_array_equal(counts.of_class(label).keys, expected.of_class(label).keys)
        np.testing.assert_array_equal(counts.of_class(label).counts, expected.of_class(label).counts)
    assert (counts.height, counts.width) == (expected.height, expected.width) == (6, 1)


def test_a_class_is_asked_for_where_there_are_some() -> None:
    (plain,) = count_patterns(nn.ReLU(), torch.ones(3, 2))
    with pytest.raises(ValueError, match="has no counts per class; count with labels"):
        plain.of_class(0)
    (counts,) = count_patterns(nn.ReLU(), torch.ones(3, 2), labels=[0, 1, 2])
    with pytest.raises(ValueError, match="expected a class from 0 to 2, but got 3"):
        counts.of_class(3)
