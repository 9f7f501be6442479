"""`count_patterns` against an independent recount: plain hooks, and numpy.unique on the bits."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reluscope.counting import count_patterns
from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.patterns import PatternCounts
from reluscope.preactivations.warned import CountingWarning

ENGINES = ["numpy", "numba", "torch"]  # Triton, slow in its interpreter: test_engines


class Block(nn.Module):
    """Pre-activation block that calls one in-place ReLU twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.norm1(x)))
        return x + self.conv2(self.relu(self.norm2(y)))


def small_network(seed: int, width: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        Block(width),
        nn.PReLU(width),
        nn.Conv2d(width, 12, 3, stride=2),
        nn.BatchNorm2d(12),
        nn.LeakyReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(12 * 3 * 3, 70),
        nn.ReLU6(),
        nn.Linear(70, 10),
    )


def recount(network: nn.Module, images: Tensor, batch_size: int) -> list[dict[bytes, int]]:
    """How often each row of bits occurs in each layer, in forward order. Alters the network's running statistics."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    passes: list[list[np.ndarray]] = []
    types = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU)
    for module in network.modules():
        if isinstance(module, types):
            module.register_forward_pre_hook(lambda _, args: passes[-1].append(args[0].numpy().copy()))
    with torch.no_grad():
        for batch in images.split(batch_size):
            passes.append([])
            network(batch)
    layers = []
    for tensors in zip(*passes, strict=True):
        rows = np.concatenate([np.moveaxis(tensor, 1, -1).reshape(-1, tensor.shape[1]) > 0 for tensor in tensors])
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        layers.append({row.tobytes(): int(count) for row, count in zip(distinct, counts, strict=True)})
    return layers


def as_rows(layer: PatternCounts) -> dict[bytes, int]:
    """The same from exact keys, bit by bit."""
    bits = [[key >> channel & 1 == 1 for channel in range(layer.num_channels)] for key in layer.keys.tolist()]
    rows = np.array(bits, dtype=bool)
    return {row.tobytes(): count for row, count in zip(rows, layer.counts.tolist(), strict=True)}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("width", [5, 20, 40])
def test_agrees_with_a_plain_recount(engine: str, memory_format: torch.memory_format, width: int) -> None:
    network = small_network(seed=width, width=width)
    images = torch.randn(25, 3, 8, 8).contiguous(memory_format=memory_format)
    counts = count_patterns(network, images, batch_size=8, engine=engine)
    expected = recount(network, images, batch_size=8)
    assert [layer.layer_name for layer in counts] == ["1.relu", "1.relu_1", "2", "5", "9"]
    assert [layer.num_channels for layer in counts] == [width, width, width, 12, 70]
    assert [(layer.height, layer.width) for layer in counts] == [(8, 8)] * 3 + [(3, 3), (1, 1)]
    assert [layer.num_positions for layer in counts] == [25 * 64] * 3 + [25 * 9, 25]
    for layer, rows in zip(counts[:-1], expected[:-1], strict=True):
        assert as_rows(layer) == rows
    assert sorted(counts[-1].counts.tolist()) == sorted(expected[-1].values())  # 70 channels: keys are not the bits


def test_the_batch_partition_is_part_of_the_result() -> None:
    network, images = small_network(seed=1, width=8), torch.randn(32, 3, 8, 8)
    by_size = {size: count_patterns(network, images, batch_size=size) for size in (8, 16)}
    assert as_rows(by_size[8][0]) != as_rows(by_size[16][0])
    total: dict[bytes, int] = {}
    for start in (0, 16):
        for row, count in as_rows(count_patterns(network, images[start : start + 16], batch_size=16)[0]).items():
            total[row] = total.get(row, 0) + count
    assert as_rows(by_size[16][0]) == total


class Sliced:
    """Images that exist only as slices, like uint8 images normalised on access."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.slices: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: slice) -> Tensor:
        self.slices.append((item.start, item.stop))
        return self.images[item]


def test_images_may_be_anything_that_slices() -> None:
    network, images = small_network(seed=2, width=4), torch.randn(20, 3, 8, 8)
    sliced = Sliced(images)
    for ours, tensors in zip(count_patterns(network, sliced, 8), count_patterns(network, images, 8), strict=True):
        assert as_rows(ours) == as_rows(tensors)
    assert sliced.slices == [(0, 8), (8, 16), (16, 20)]


class FailsLate(nn.Module):
    """Raises in the batch that begins with a 9, after the activations."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        self.network(x)
        if x[0, 0, 0, 0] == 9:
            raise RuntimeError("failed on purpose")
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_exactly_as_found(fails: bool) -> None:
    inner = small_network(seed=3, width=4).train()
    inner[6].eval()
    network = FailsLate(inner) if fails else inner
    images = torch.randn(12, 3, 8, 8)
    images[6, 0, 0, 0] = 9
    inner(images).sum().backward()

    def as_bytes(tensor: Tensor | None) -> bytes | None:
        return None if tensor is None else tensor.numpy().tobytes()

    def state() -> tuple[Any, ...]:
        return (
            {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()},
            [module.training for module in network.modules()],
            [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in network.modules()],
            [(parameter.requires_grad, as_bytes(parameter.grad)) for parameter in network.parameters()],
            torch.get_rng_state().numpy().tobytes(),
        )

    before = state()
    if fails:
        with pytest.raises(RuntimeError, match="failed on purpose"):
            count_patterns(network, images, 6)
    else:
        count_patterns(network, images, 6)
    assert state() == before


def test_a_buffer_that_a_forward_pass_fills_is_empty_again() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", None)

        def forward(self, x: Tensor) -> Tensor:
            if self.mask is None:
                self.mask = torch.ones(x.shape[0], 1)
                self.register_buffer("more", torch.ones(1))
            return torch.relu(x * self.mask)

    network = Caches()
    count_patterns(network, torch.randn(6, 3))
    assert network.mask is None
    assert list(network._buffers) == ["mask"]


class Changing(nn.Module):
    """Hands its activations what the batch's number, its first value, says: `shapes` lists (activation, shape) pairs.

    All values are about 1 in the first batch, and -1 in the second; how much they depend on the images is given.
    """

    def __init__(self, *shapes: list[tuple[str, tuple[int, ...]]], dependence: float = 0.1) -> None:
        super().__init__()
        self.a, self.b = nn.ReLU(), nn.ReLU()
        self.shapes, self.dependence = shapes, dependence

    def forward(self, x: Tensor) -> Tensor:
        number = int(x[0, 0] > 0.5)
        for name, shape in self.shapes[number]:
            getattr(self, name)(x.new_ones(shape) * (-1) ** number * (1 + self.dependence * x.mean()))
        return x


NUMBERS = torch.tensor([[0.0], [0.0], [1.0], [1.0]])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([("a", (2, 3))], [("a", (2, 4))], r"Layer 'a': expected 3 channels on axis 1 as in .* has 4 on axis 1; excl"),
        (
            [("b", (3, 5, 7))],
            [],
            r"Layer 'b': its input, of shape \[3, 5, 7\], is the same whatever the images are; exclude",
        ),
        ([("b", (2,))], [], r"Layer 'b': expected an axis of images and one of channels, but got shape \[2\]"),
        ([], [], r"expected the forward pass to call an activation, as a module or function of torch \(ReLU, .* none"),
        ([("a", (2, 3))], [], r"expected the forward pass to call an activation"),
    ],
)
def test_layers_that_are_others_in_another_batch_are_refused(
    first: list[tuple[str, tuple[int, ...]]], second: list[tuple[str, tuple[int, ...]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        count_patterns(Changing(first, second, dependence=0), NUMBERS, batch_size=2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("first", "second", "expected"),  # layers by name: positions of the first batch, and of the second; height
    [
        ([("a", (2, 3, 4, 4))], [("a", (2, 3, 4, 5))], {"a": (32, 40, 0)}),
        ([("a", (2, 3)), ("b", (2, 3))], [("b", (2, 3)), ("a", (2, 3))], {"a": (2, 2, 1), "b": (2, 2, 1)}),
        ([("a", (2, 3)), ("b", (2, 3))], [("a", (2, 3))], {"a": (2, 2, 1), "b": (2, 0, 0)}),
        ([("b", (2, 3))], [("a", (2, 3)), ("b", (2, 3))], {"a": (0, 2, 0), "b": (2, 2, 1)}),
        ([("a", (2, 3))], [("a", (2, 3)), ("a", (2, 3))], {"a": (2, 2, 1), "a_1": (0, 2, 0)}),
        ([("a", (2, 3))], [("a", (70, 3))], {"a": (2, 70, 0)}),
        ([("a", (2, 3))], [("a", (0, 3))], {"a": (2, 0, 0)}),
    ],
)
def test_positions_may_be_others_in_another_batch(
    first: list[tuple[str, tuple[int, ...]]],
    second: list[tuple[str, tuple[int, ...]]],
    expected: dict[str, tuple[int, int, int]],
    engine: str,
) -> None:
    unknown = [name for name, (*_, height) in expected.items() if height == 0]
    order = r"in other numbers: 'a \(1 or 2\)' times; such calls are told apart by their order alone"
    with (
        pytest.warns(CountingWarning, match=order) if "a_1" in expected else nullcontext(),
        pytest.warns(CountingWarning, match=f"'{unknown[0]} ") if unknown else nullcontext(),
    ):
        counts = count_patterns(Changing(first, second), NUMBERS, batch_size=2, engine=engine)
    assert [layer.layer_name for layer in counts] == list(expected)
    for layer, (in_first, in_second, height) in zip(counts, expected.values(), strict=True):
        shown = {7: in_first, 0: in_second}
        assert dict(zip(layer.keys.tolist(), layer.counts.tolist(), strict=True)) == {
            k: n for k, n in shown.items() if n
        }
        assert (layer.num_positions, layer.height) == (in_first + in_second, height)


def test_a_small_buffer_and_more_threads_give_the_same_counts() -> None:
    network, images = small_network(seed=4, width=40), torch.randn(30, 3, 8, 8)
    expected = [as_rows(layer) for layer in count_patterns(network, images, 8)]
    torch.set_num_threads(3)  # as many layers are sorted and merged at the same time
    try:
        assert [as_rows(layer) for layer in count_patterns(network, images, 8, buffer_bytes=1)] == expected
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("batches_at_once", [2, 3, 99])
def test_batches_that_pass_together_keep_their_own_statistics(
    memory_format: torch.memory_format, batches_at_once: int
) -> None:
    """In double precision, so that no sum's order turns a bit."""
    network = small_network(seed=5, width=20)
    network[1].norm2 = nn.BatchNorm2d(20, affine=False)
    network[8] = nn.Sequential(network[8], nn.BatchNorm1d(70))
    network.double()
    images = torch.randn(37, 3, 8, 8).double().contiguous(memory_format=memory_format)  # 4 batches of 8, one of 5
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one_by_one = count_patterns(network, images, 8)
    together = count_patterns(network, images, 8, batches_at_once=batches_at_once)
    for ours, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_array_equal(ours.keys, expected.keys)
        np.testing.assert_array_equal(ours.counts, expected.counts)
    assert as_rows(count_patterns(network, images, 32)[0]) != as_rows(one_by_one[0])  # they do matter
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("norm_dtype", [None, torch.float32])
def test_batch_norm_in_groups_is_torchs_for_each(dtype: torch.dtype, norm_dtype: torch.dtype | None) -> None:
    """Values and dtype, in half precision and with a batch-norm in float32 too."""
    norm = nn.BatchNorm2d(5).to(norm_dtype or dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    values = (torch.randn(12, 5, 4, 4) * 3 + 1).to(dtype)
    with torch.no_grad():
        expected = torch.cat([norm(batch) for batch in values.split(4)])
        with batch_norm_in_groups(3):
            together = norm(values)
    assert together.dtype == expected.dtype
    rounding = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(together, expected, rtol=rounding, atol=rounding)


def test_batch_norm_over_several_processes_is_counted_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own forward pass would wait for the others; on the CPU, torch refuses it instead."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    network, images = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain)), torch.randn(24, 3, 6, 6)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    with pytest.raises(ValueError, match="expected input tensor to be on"):
        network(images)
    (counts,), (expected,) = (count_patterns(one, images, batch_size=8) for one in (network, plain))
    np.testing.assert_array_equal(counts.keys, expected.keys)
    np.testing.assert_array_equal(counts.counts, expected.counts)
    assert "forward" not in vars(network[1])


@pytest.mark.parametrize("batches_at_once", [1, 4])
@pytest.mark.parametrize(
    ("num_images", "batch_size", "instead"),
    [(8, 1, r"a larger batch_size, and at"), (9, 4, r"a batch_size such as 3$"), (1, 4, "at least two images$")],
)
def test_a_single_image_in_batch_norm_is_refused_before_the_first_batch(
    num_images: int, batch_size: int, instead: str, batches_at_once: int
) -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    images = Sliced(torch.randn(num_images, 3))
    with pytest.raises(ValueError, match=rf"^batch_size: of {num_images} images in batches .* is a single.*{instead}"):
        count_patterns(network, images, batch_size, batches_at_once=batches_at_once)
    assert len(images.slices) == 1
    maps = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())  # a channel of one image has several values here
    (counts,) = count_patterns(maps, torch.randn(num_images, 3, 2, 2), batch_size, batches_at_once=batches_at_once)
    assert counts.num_positions == 4 * num_images


def test_bad_arguments_are_refused() -> None:
    network, images = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(4, 2)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, but got 0"):
        count_patterns(network, images, 0)
    with pytest.raises(TypeError, match=r"batch_size: expected an integer, but got 8\.0"):
        count_patterns(network, images, 8.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected at least one image"):
        count_patterns(network, images[:0])
    with pytest.raises(
        ValueError, match=r"engine: unknown 'cuda'; allowed are auto, numpy, numba, torch, triton, hash$"
    ):
        count_patterns(network, images, engine="cuda")
    with pytest.raises(TypeError, match="expected slices to be tensors, but got list"):
        count_patterns(network, [1, 2])  # type: ignore[arg-type]


def test_progress_stays_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    count_patterns(nn.ReLU(), torch.ones(3, 2), progress=True)
    assert capsys.readouterr() == ("", "")
