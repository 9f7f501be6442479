"""Pre-activations that are NaN are counted by layer, whatever they come from, and told."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reluscope import PatternRecorder, open_counts
from reluscope.counting import count_patterns
from reluscope.patterns import PatternCounts

NAN = float("nan")
ENGINES = ["numpy", "numba", "torch"]


class Thresholds(nn.Module):
    """Three activations, each with another threshold, of the images themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x) + nn.functional.hardtanh(x, -0.5, 0.5) + nn.functional.threshold(x, 0.25, 0.0)


def counted(network: nn.Module, images: Tensor, **how: object) -> list[PatternCounts]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return count_patterns(network, images, 4, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_of_the_images_and_of_the_weights(engine: str) -> None:
    """One image of ten with one NaN pixel, then one NaN weight of a second layer: counted by hand."""
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 1), nn.ReLU())
    images = torch.randn(10, 1, 4, 4)
    images[7, 0, 1, 2] = NAN
    assert [layer.num_nan for layer in counted(network, images, engine=engine)] == [3, 5]  # of all channels there
    with torch.no_grad():
        network[2].weight[1, 0] = NAN  # type: ignore[operator]
    of_weights = counted(network, images, engine=engine)
    assert [layer.num_nan for layer in of_weights] == [3, 10 * 16 + 4]
    assert of_weights[0].sampled(2).num_nan == 3
    assert counted(network[:2], images.nan_to_num(), engine=engine)[0].num_nan == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_is_not_lost_above_other_thresholds(engine: str, dtype: torch.dtype) -> None:
    images = torch.tensor([[-1.0, 0.1, NAN], [0.3, NAN, NAN], [-0.2, torch.inf, -torch.inf]], dtype=dtype)
    layers = counted(Thresholds(), images, engine=engine)
    assert [layer.num_nan for layer in layers] == [3, 3, 3]
    bits = [dict(zip(layer.keys.tolist(), layer.counts.tolist(), strict=True)) for layer in layers]
    assert bits == [{0b010: 2, 0b001: 1}, {0b010: 1, 0b001: 1, 0b011: 1}, {0b000: 1, 0b001: 1, 0b010: 1}]


def test_the_layers_are_named_in_one_line_with_the_step() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU())
    images = torch.ones(5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_patterns(network, images)
        count_patterns(nn.ReLU(), torch.tensor([[torch.inf, -torch.inf]]))  # above or below 0 like other numbers
    network[2].bias.data[0] = NAN  # type: ignore[union-attr,operator]
    with pytest.warns(
        UserWarning, match=r"^pre-activations are NaN in layer 3 \(5\): their bits are 0, and say"
    ) as told:
        count_patterns(network, images)
    assert told[0].filename == __file__
    network[0].bias.data[0] = NAN  # type: ignore[union-attr,operator]
    with pytest.warns(UserWarning, match=r"^step 1,000: pre-activations are NaN in layers 1 \(5\), 3 \(20\): their"):
        count_patterns(network, images, step=1000)


def test_a_recording_keeps_and_tells_at_which_step(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU())
    images = torch.ones(5, 2)
    with PatternRecorder(network, images, tmp_path / "c.zarr") as recorder:
        recorder.record(0)
        network[2].weight.data[1] = NAN  # type: ignore[union-attr,operator]
        with pytest.warns(UserWarning, match=r"^step 8: pre-activations are NaN in layer 3 \(5\): "):
            recorder.record(8)
    store = open_counts(tmp_path / "c.zarr")
    np.testing.assert_array_equal(store.num_nan, [[0, 0], [0, 5]])
    assert [store.at(1, layer).num_nan for layer in range(2)] == [0, 5]
    assert [counts.num_nan for counts in store.over_time(1)] == [0, 5]


def test_counts_by_class_have_the_number_of_all_classes() -> None:
    images = torch.tensor([[1.0, NAN], [1.0, 1.0]])
    (layer,) = counted(nn.Sequential(nn.ReLU()), images, labels=torch.tensor([0, 1]))
    assert (layer.num_nan, layer.of_class(1).num_nan) == (1, 1)
