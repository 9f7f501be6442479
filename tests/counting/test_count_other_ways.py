"""Batches that take another way through the network than the first one, and images that a network does not take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from reluscope import count_patterns
from reluscope.preactivations.warned import CountingWarning

CHANNELS = 6
IMAGES = torch.randn(11, 5, generator=torch.Generator().manual_seed(3))


class Sometimes(nn.Module):
    """Calls a function in some batches alone, before a ReLU that all call."""

    def __init__(self, function: Callable[[Tensor], Tensor], calls: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.function, self.calls, self.relu = function, calls, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.relu(self.last(self.function(h) if self.calls(x) else h))


def only_in(batch: Tensor) -> Callable[[Tensor], bool]:
    return lambda x: float(x[0, 0]) == float(batch[0, 0])


@pytest.mark.parametrize("calls", [lambda x: len(x) < 4, only_in(IMAGES[8:]), only_in(IMAGES[4:8])])
@pytest.mark.parametrize("function", [lambda h: h * (h > 0), lambda h: h.clamp(min=0), F.relu])
def test_what_only_a_later_batch_calls_is_counted(
    function: Callable[[Tensor], Tensor], calls: Callable[[Tensor], bool]
) -> None:
    torch.manual_seed(0)
    network = Sometimes(function, calls)
    with pytest.warns(CountingWarning, match="positions do not lie image by image, or not as many for each"):
        late, relu = count_patterns(network, IMAGES, batch_size=4)
    batch = next(images for images in IMAGES.split(4) if calls(images))
    bits = network.first(batch) > 0
    keys, counts = np.unique((bits.long() * 2 ** torch.arange(CHANNELS)).sum(1).numpy(), return_counts=True)
    np.testing.assert_array_equal(late.keys, keys)
    np.testing.assert_array_equal(late.counts, counts)
    assert (relu.layer_name, relu.num_positions) == ("relu", 11)


def test_functions_that_are_called_more_often_in_some_batches_are_told() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, CHANNELS)

        def forward(self, x: Tensor) -> Tensor:
            h = self.linear(x)
            return F.relu(F.relu(h) - 0.5) if len(x) < 4 else F.relu(h - 0.5)

    with (
        pytest.warns(CountingWarning, match=r"in other numbers: 'relu\(\) \(1 or 2\)' times; .* by their order alone"),
        pytest.warns(CountingWarning, match="positions do not lie"),
    ):
        first, second = count_patterns(Net(), IMAGES, batch_size=4)
    assert (first.num_positions, second.num_positions) == (11, 3)


def test_layers_whose_weights_are_still_0_are_counted_per_class() -> None:
    """As those of squeeze-and-excite blocks behind a norm that begins at 0."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero, self.one, self.relu = nn.Linear(5, CHANNELS), nn.Linear(5, CHANNELS), nn.ReLU()
            nn.init.zeros_(self.zero.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.one(x) + F.relu(self.zero(x)))

    torch.manual_seed(1)
    network, labels = Block(), torch.arange(11) % 3
    zero, one = count_patterns(network, IMAGES, batch_size=4, labels=labels)
    for label, number in enumerate([4, 4, 3]):
        assert zero.of_class(label).counts.tolist() == [number]
        alone = count_patterns(network, IMAGES[labels == label], batch_size=4)[1]
        np.testing.assert_array_equal(one.of_class(label).keys, alone.keys)
        np.testing.assert_array_equal(one.of_class(label).counts, alone.counts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8])
def test_images_of_a_dtype_that_the_network_does_not_take(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"^images: the network, whose parameters are float32, stops at .* {name} .*"):
        count_patterns(network, IMAGES.to(dtype), 4)


def test_a_nested_tensor_is_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, CHANNELS)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.linear(torch.nested.nested_tensor([row[None] for row in x], layout=torch.jagged)))

    with pytest.raises(ValueError, match=r"^Layer 'relu': its input is a nested tensor, .* padded tensors"):
        count_patterns(Net(), IMAGES, 4)
