"""Counting engines: each agrees with the oracle to the last count, and the oracle with numpy.unique on the bits."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting import compiled
from reluscope.counting import engines as engines_module
from reluscope.counting.engines import ENGINES, Counter, counter_type
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import channel_words, key_dtype

CPU = torch.device("cpu")
BY_TRITON = ("triton", "hash")
DEVICES = dict.fromkeys(BY_TRITON, torch.device("cuda")) if torch.cuda.is_available() else {}  # else its interpreter
ENGINE_NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name in BY_TRITON and not find_spec("triton"), reason="no Triton here"))
    for name in ENGINES
]
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1.0, -1.0])


def rows_of(tensor: Tensor) -> NDArray[np.bool_]:
    """The bits of every position, [positions, channels]."""
    values = np.moveaxis(tensor.double().numpy(), 1, -1)
    return values.reshape(-1, tensor.shape[1]) > 0


def filled(engine: str, tensors: list[Tensor], buffer_bytes: int = 1 << 20) -> Counter:
    num_channels, device = tensors[0].shape[1], DEVICES.get(engine, CPU)
    buffers = KeyBuffers(len(tensors), buffer_bytes)
    counter = counter_type(engine, device)(num_channels, device, buffers)
    for tensor in tensors:
        counter.add(tensor.to(device))
        buffers.end_batch()
    return counter


def counted(engine: str, tensors: list[Tensor], buffer_bytes: int = 1 << 20) -> tuple[list[int], list[int]]:
    counter = filled(engine, tensors, buffer_bytes)
    assert counter.num_nan == sum(int(np.isnan(tensor.double().numpy()).sum()) for tensor in tensors)
    keys, counts = counter.result()
    assert keys.dtype == key_dtype(tensors[0].shape[1])
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
    num_images = draw(st.integers(1, 3))
    for _ in range(draw(st.integers(1, 4))):
        chosen = patterns[rng.integers(0, len(patterns), (num_images, *spatial))]
        chosen = np.where(rng.random(chosen.shape) < 0.01, rng.choice(SPECIAL, chosen.shape), chosen)
        tensor = torch.from_numpy(np.moveaxis(chosen, -1, 1).copy()).to(dtype)
        if layout == "channels_last" and spatial:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        elif layout == "strided":
            tensor = torch.stack([tensor, -tensor], -1)[..., 0]
        tensors.append(tensor)
    return tensors


def check_against_the_oracle(engine: str, tensors: list[Tensor], buffer_bytes: int) -> None:
    expected = counted("numpy", tensors)
    before = [tensor.clone() for tensor in tensors]
    assert counted(engine, tensors, buffer_bytes) == expected
    for tensor, original in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, original, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("num_threads", [1, 2])
@settings(deadline=None, max_examples=50)
@given(batches(), st.sampled_from([1, 1000, 10**6]))
def test_numba_agrees_with_the_oracle_on_any_number_of_threads(
    num_threads: int, tensors: list[Tensor], buffer_bytes: int
) -> None:
    torch.set_num_threads(num_threads)
    try:
        check_against_the_oracle("numba", tensors, buffer_bytes)
    finally:
        torch.set_num_threads(1)


@settings(deadline=None, max_examples=60)
@given(batches(), st.sampled_from([1, 1000, 10**6]))
def test_torch_agrees_with_the_oracle(tensors: list[Tensor], buffer_bytes: int) -> None:
    check_against_the_oracle("torch", tensors, buffer_bytes)


@settings(deadline=None, max_examples=12)
@given(batches(), st.sampled_from([1, 1000, 10**6]))
def test_triton_agrees_with_the_oracle(tensors: list[Tensor], buffer_bytes: int) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    check_against_the_oracle("triton", tensors, buffer_bytes)


@settings(deadline=None, max_examples=8)
@given(batches())
def test_a_hash_table_agrees_with_the_oracle(tensors: list[Tensor]) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    check_against_the_oracle("hash", tensors, 1 << 20)


@pytest.mark.parametrize("distinct", [5, 1 << 62])
def test_a_hash_table_grows_and_loses_nothing(distinct: int) -> None:
    """From 256 slots on, with a hot key, and the key that stands for an empty slot."""
    kernels = pytest.importorskip("reluscope.counting.hash_kernels", reason="Triton is not installed")
    rng, empty, device = np.random.default_rng(0), kernels._EMPTY.value, DEVICES.get("hash", CPU)
    table = kernels.HashTable(device, 256)
    batches = []
    for _ in range(3):
        keys = rng.integers(-distinct, distinct, 700)
        keys[rng.random(700) < 0.3] = 7
        keys[rng.random(700) < 0.01] = empty
        table.add(torch.from_numpy(keys).to(device))
        batches.append(keys)
    assert table.num_slots >= (2048 if distinct > 5 else 256)
    found = [tensor.cpu().numpy() for tensor in table.take()]
    expected = np.unique(np.concatenate(batches), return_counts=True)
    assert expected[0][0] == empty
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=40)
@given(batches())
def test_the_oracle_agrees_with_unique_rows(tensors: list[Tensor]) -> None:
    num_channels = tensors[0].shape[1]
    keys, counts = counted("numpy", tensors)
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


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_hand_computed(engine: str) -> None:
    nan = float("nan")
    tensor = torch.tensor([[1.0, -1.0, 2.0], [0.0, -0.0, nan], [1e-30, -3.0, 5.0], [-1.0, 4.0, 0.0]])
    assert counted(engine, [tensor]) == ([0b000, 0b010, 0b101], [1, 1, 2])


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 5), (2, 16, 3, 3), (2, 20, 5, 7), (1, 70, 33, 32)])
def test_every_nan_is_counted_wherever_it_is(engine: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """In either memory format, at any place, and beside infinities of both signs, whose sum is NaN too."""
    if engine in BY_TRITON and (dtype != torch.float32 or shape[1] > (20 if engine == "triton" else 5)):
        pytest.skip("slow in Triton's interpreter")
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    values.view(-1)[[1, 4]] = torch.tensor([torch.inf, -torch.inf], dtype=dtype)
    last = values.numel() - 1
    for places in ([], [0], [last], [2, last // 2, last - 1], range(last + 1)):
        given = values.clone()
        given.view(-1)[list(places)] = torch.nan
        formats = [given]
        if given.ndim == 4:
            formats.append(given.contiguous(memory_format=torch.channels_last))
        for tensor in formats:
            assert filled(engine, [values, tensor, tensor]).num_nan == 2 * len(places)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_count_nan_together(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    try:
        values = torch.where(torch.rand(40, 24, 16, 16) < 0.1, torch.nan, 1.0)
        assert filled("numba", [values]).num_nan == int(values.isnan().sum())
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_whole_numbers_are_never_nan(engine: str, dtype: torch.dtype) -> None:
    assert filled(engine, [torch.tensor([[0, 1, 255]]).to(dtype)]).num_nan == 0


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_bit_63_sorts_last(engine: str) -> None:
    tensor = -torch.ones(3, 64)
    tensor[0, 63] = tensor[1, 62] = 1
    assert counted(engine, [tensor]) == ([0, 2**62, 2**63], [1, 1, 1])


@pytest.mark.parametrize("engine", ENGINE_NAMES[1:])
@pytest.mark.parametrize("num_channels", [16, 20, 40, 70])
@pytest.mark.parametrize("buffer_bytes", [1, 1000, 10**6])
def test_all_distinct_and_hot_keys_over_many_merges(engine: str, num_channels: int, buffer_bytes: int) -> None:
    """Batches of 100 positions: 50 show a pattern of their own, 50 all the same one, across many merges."""
    num_batches = 4 if engine in BY_TRITON else 40  # slow in Triton's interpreter
    numbers = np.random.default_rng(3).permutation(50 * num_batches).reshape(num_batches, 50) + 1
    bits = np.concatenate([numbers, np.zeros_like(numbers)], axis=1)[..., None] >> np.arange(num_channels) & 1
    keys, counts = counted(engine, list(torch.from_numpy(np.where(bits, 1.0, -1.0)).float()), buffer_bytes)
    np.testing.assert_array_equal(keys, np.arange(50 * num_batches + 1))
    np.testing.assert_array_equal(counts, [50 * num_batches] + [1] * (50 * num_batches))


def test_auto_chooses_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(engines_module, "_passes_trial", lambda engine, device: True)
    engines = {device: counter_type("auto", torch.device(device)).__name__ for device in ("cpu", "mps", "cuda", "xpu")}
    assert engines == {"cpu": "NumbaCounter", "mps": "NumbaCounter", "cuda": "TritonCounter", "xpu": "TorchCounter"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert counter_type("auto", torch.device("cuda")).__name__ == "TorchCounter"
    with pytest.raises(ValueError, match="expected triton to be installed for 'triton'"):
        counter_type("triton", torch.device("cuda"))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("num_channels", [3, 16, 20, 70])
@pytest.mark.parametrize("empty", [(0, 2, 2), (3, 0, 2)])
def test_a_batch_of_no_positions_adds_none(engine: str, num_channels: int, empty: tuple[int, int, int]) -> None:
    nothing = torch.empty(empty[0], num_channels, *empty[1:])
    something = torch.ones(1, num_channels, 2, 2)
    key = int(np.bitwise_xor.reduce(channel_words(num_channels)))
    assert counted(engine, [nothing]) == ([], [])
    assert counted(engine, [something, nothing], buffer_bytes=1) == ([key], [4])
    assert counted(engine, [nothing, something], buffer_bytes=1) == ([key], [4])


def test_auto_takes_torch_where_triton_fails_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial runs in Triton's interpreter; a kernel that cannot run, or is wrong, fails it."""
    kernels = pytest.importorskip("reluscope.counting.triton_kernels", reason="Triton is not installed")
    device = DEVICES.get("triton", CPU)
    trial = engines_module._passes_trial.__wrapped__
    assert trial("triton", device)
    launch = kernels._launch

    def wrong(kernel, preactivation, words, output, *settings) -> None:
        launch(kernel, -preactivation, words, output, *settings)

    for broken, reason in ((None, "'NoneType' object is not callable"), (wrong, "it counts otherwise than torch does")):
        monkeypatch.setattr(kernels, "_launch", broken)
        with pytest.warns(UserWarning, match=f"'triton' does not work on .*'torch' counts instead: {reason}"):
            assert not trial("triton", device)
    monkeypatch.setattr(engines_module, "_passes_trial", lambda engine, device: False)
    assert counter_type("auto", torch.device("cuda")).__name__ == "TorchCounter"


def test_triton_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("reluscope.counting.triton_kernels", reason="Triton is not installed")
    monkeypatch.setattr(kernels, "_INTERPRETS", False)
    with pytest.raises(ValueError, match="expected the network on an NVIDIA or AMD GPU, but it is on cpu"):
        counter_type("triton", CPU)(3, CPU, KeyBuffers(1))


def test_an_unknown_engine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"engine: unknown 'nunba'; did you mean 'numba'\? allowed are auto, "):
        counter_type("nunba", CPU)


def test_counts_beyond_32_bits_are_not_cut() -> None:
    """So many keys are too many for a test; what decides is the dtype."""
    assert compiled._count_dtype(2**32 - 1) == np.uint32
    assert compiled._count_dtype(2**32) == np.int64
    counts = np.full(1, 2**32 - 1, compiled._count_dtype(2**33))
    keys = np.zeros(1, np.uint32)
    _, sums = compiled._merge((keys, counts), (keys, counts), 2**33)
    assert sums.tolist() == [2 * (2**32 - 1)]
