"""Counting engines: each agrees with the oracle to the last count, and the oracle with numpy.unique on the bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.compiled import NumbaCounter
from reluscope.counting.device import TorchCounter
from reluscope.counting.engines import COUNTERS, Counter, counter_type
from reluscope.counting.oracle import NumpyCounter
from reluscope.patterns import channel_words, key_dtype

FAST: list[type[NumbaCounter] | type[TorchCounter]] = [NumbaCounter, TorchCounter]
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1.0, -1.0])


def rows_of(tensor: Tensor) -> NDArray[np.bool_]:
    """The bits of every position, [positions, channels]."""
    values = np.moveaxis(tensor.double().numpy(), 1, -1)
    return values.reshape(-1, tensor.shape[1]) > 0


def counted(counter: Counter, tensors: list[Tensor]) -> tuple[list[int], list[int]]:
    num_channels = tensors[0].shape[1]
    for tensor in tensors:
        counter.add(tensor)
    keys, counts = counter.result()
    assert keys.dtype == key_dtype(num_channels)
    assert counts.dtype == np.int64
    assert (keys[1:] > keys[:-1]).all()
    return keys.tolist(), counts.tolist()


@st.composite
def batches(draw: st.DrawFn) -> list[Tensor]:
    """One to four batches of one layer, of any layout and dtype, full of special values and repeated patterns."""
    num_channels = draw(st.integers(1, 130) | st.sampled_from([16, 17, 32, 33, 63, 64, 65]))
    spatial = draw(st.sampled_from([(), (1, 1), (2, 3), (33, 32)]))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    layout = draw(st.sampled_from(["contiguous", "channels_last", "strided"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    patterns = rng.choice([-1.0, 1.0], (draw(st.integers(1, 50)), num_channels))
    tensors = []
    for num_images in draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)):
        chosen = patterns[rng.integers(0, len(patterns), (num_images, *spatial))]
        chosen = np.where(rng.random(chosen.shape) < 0.01, rng.choice(SPECIAL, chosen.shape), chosen)
        tensor = torch.from_numpy(np.moveaxis(chosen, -1, 1).copy()).to(dtype)
        if layout == "channels_last" and spatial:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        elif layout == "strided":
            tensor = torch.stack([tensor, -tensor], -1)[..., 0]
        tensors.append(tensor)
    return tensors


@settings(deadline=None, max_examples=60)
@given(batches(), st.sampled_from([1, 7, 1000, 10**6]))
def test_fast_engines_agree_with_the_oracle(tensors: list[Tensor], buffer_keys: int) -> None:
    num_channels = tensors[0].shape[1]
    expected = counted(NumpyCounter(num_channels), tensors)
    before = [tensor.clone() for tensor in tensors]
    for counter in FAST:
        assert counted(counter(num_channels, buffer_keys=buffer_keys), tensors) == expected
    for tensor, original in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, original, rtol=0, atol=0, equal_nan=True)


@settings(deadline=None, max_examples=40)
@given(batches())
def test_the_oracle_agrees_with_unique_rows(tensors: list[Tensor]) -> None:
    num_channels = tensors[0].shape[1]
    keys, counts = counted(NumpyCounter(num_channels), tensors)
    rows, row_counts = np.unique(np.concatenate([rows_of(tensor) for tensor in tensors]), axis=0, return_counts=True)
    words = [int(word) for word in channel_words(num_channels)]
    expected = {}
    for row, count in zip(rows, row_counts, strict=True):
        key = 0
        for channel in np.flatnonzero(row):
            key ^= words[channel]
        expected[key] = int(count)
    assert len(expected) == len(rows)  # no two patterns share a key
    assert dict(zip(keys, counts, strict=True)) == expected


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=COUNTERS)
def test_hand_computed(counter: type[Counter]) -> None:
    nan = float("nan")
    tensor = torch.tensor([[1.0, -1.0, 2.0], [0.0, -0.0, nan], [1e-30, -3.0, 5.0], [-1.0, 4.0, 0.0]])
    assert counted(counter(3), [tensor]) == ([0b000, 0b010, 0b101], [1, 1, 2])


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=COUNTERS)
def test_bit_63_sorts_last(counter: type[Counter]) -> None:
    tensor = -torch.ones(3, 64)
    tensor[0, 63] = tensor[1, 62] = 1
    assert counted(counter(64), [tensor]) == ([0, 2**62, 2**63], [1, 1, 1])


@pytest.mark.parametrize("counter", FAST)
@pytest.mark.parametrize("num_channels", [16, 20, 40])
@pytest.mark.parametrize("buffer_keys", [1, 64, 1000])
def test_all_distinct_and_hot_keys_over_many_merges(
    counter: type[NumbaCounter | TorchCounter], num_channels: int, buffer_keys: int
) -> None:
    """Batches of 100 positions: 50 show a pattern of their own, 50 all the same one, across many flushes."""
    numbers = np.random.default_rng(3).permutation(2000).reshape(40, 50) + 1
    engine = counter(num_channels, buffer_keys=buffer_keys)
    for batch in np.concatenate([numbers, np.zeros_like(numbers)], axis=1):
        bits = batch[:, None] >> np.arange(num_channels) & 1
        engine.add(torch.from_numpy(np.where(bits, 1.0, -1.0)).float())
    keys, counts = engine.result()
    np.testing.assert_array_equal(keys, np.arange(2001))
    np.testing.assert_array_equal(counts, [2000] + [1] * 2000)


def test_auto_chooses_by_device() -> None:
    assert counter_type("auto", torch.device("cpu")) is NumbaCounter
    assert counter_type("auto", torch.device("cuda")) is TorchCounter


def test_an_unknown_engine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"engine: unknown 'nunba'; did you mean 'numba'\? allowed are auto, "):
        counter_type("nunba", torch.device("cpu"))
