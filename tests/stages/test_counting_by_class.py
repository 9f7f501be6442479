"""A run counted per class: its totals are those of the count without, and its measures those of each class's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from reluscope.counts import open_counts
from reluscope.data import load
from reluscope.measures import Measure
from reluscope.stages.counting import count_shard
from reluscope.stages.measuring import compute, measure_run
from reluscope.stages.training import train_run
from reluscope.study import MeasureSpec, Run, Study

CONFIG: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "images": 70},
    "counting": {"batch_size": 32, "steps": {"every": 2}},
    "methods": {"stepwise": {"epochs": 1, "batch_size": 20}},
    "runs": {"a": {"network": "resnet8"}},
}
STEPS = np.array([0, 2, 4])


def run_of(**counting: Any) -> Run:
    return Study.from_config({**CONFIG, "counting": {**CONFIG["counting"], **counting}}).runs["a-seed0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, str]:
    """The counts of one training: without labels, with, and with shuffled ones too."""
    folder = tmp_path_factory.mktemp("run")
    train_run(run_of(), str(folder / "weights.zarr"), study="tiny", threads=1)
    counted = {}
    for labels in (False, True, "shuffled"):
        run = run_of(labels=labels)
        (shard,) = run.shards
        counted[labels] = str(folder / f"{labels}.zarr")
        count_shard(run, shard, str(folder / "weights.zarr"), counted[labels], threads=1)
    return counted


@pytest.mark.parametrize("labels", [True, "shuffled"])
def test_totals_are_those_of_the_count_without_labels(made: dict[Any, str], labels) -> None:
    plain, by_class = open_counts(made[False]), open_counts(made[labels])
    assert plain.class_names is None
    assert by_class.class_names == [str(digit) for digit in range(10)]
    sizes = torch.bincount(load(run_of().spec.data).train.labels, minlength=10).numpy()
    for layer in range(len(plain.layer_names)):
        for one, other in zip(plain.over_time(layer), by_class.over_time(layer, classes=True), strict=True):
            np.testing.assert_array_equal(one.keys, other.keys)
            np.testing.assert_array_equal(one.counts, other.counts)
            np.testing.assert_array_equal(other.classes.num_positions, sizes * one.height * one.width)
            np.testing.assert_array_equal(other.classes.totals, one.counts)


def test_a_measure_of_classes_has_a_value_for_each(made: dict[Any, str], tmp_path: Path) -> None:
    spec = MeasureSpec("entropy_of_each_class", {}, STEPS[1:])
    measure_run({str(tmp_path / "m.zarr"): spec}, [made[True]])
    dataset = xarray.open_zarr(tmp_path / "m.zarr")
    assert dataset.entropy_of_each_class.dims == ("step", "layer", "class")
    assert dataset.class_name.values.tolist() == [str(digit) for digit in range(10)]
    assert {"class", "class_name", "layer_name"} <= set(dataset.entropy_of_each_class.coords)
    of_class = open_counts(made[True]).at(1, 3, classes=True).of_class(7)
    value = float(dataset.entropy_of_each_class.sel(step=2, layer=3, **{"class": 7}))
    assert value == pytest.approx(of_class.entropy)


def test_shuffled_labels_say_less_than_the_true_ones(made: dict[Any, str]) -> None:
    information, shuffled = (
        compute([MeasureSpec(name, {}, STEPS)], open_counts(made["shuffled"]))[0].values
        for name in ("mutual_information", "mutual_information_of_shuffled_labels")
    )
    assert information.shape == (3, 7)
    assert (shuffled >= 0).all()
    assert (shuffled <= np.log2(10)).all()
    assert shuffled.mean() < information.mean()


def test_other_measures_are_the_same_as_without_labels(made: dict[Any, str]) -> None:
    for name in ("entropy", "weighted_jaccard_to_initial"):
        plain, by_class = (
            compute([MeasureSpec(name, {}, STEPS)], open_counts(made[kind]))[0] for kind in (False, True)
        )
        np.testing.assert_array_equal(plain.values, by_class.values)


@pytest.mark.parametrize(("labels", "needed"), [(False, "true"), (True, "shuffled")])
def test_a_measure_of_what_was_not_counted_is_refused(made: dict[Any, str], labels, needed: str) -> None:
    name = "mutual_information" if needed == "true" else "mutual_information_of_shuffled_labels"
    with pytest.raises(ValueError, match=f"^{name}: needs counting.labels: {needed}, or .* were made without$"):
        compute([MeasureSpec(name, {}, STEPS)], open_counts(made[labels]))[0]


def test_a_measure_may_need_the_shuffled_labels_alone(made: dict[Any, str], monkeypatch) -> None:
    def joint(counts: Any, shuffled_joint_entropy: float) -> float:
        return shuffled_joint_entropy

    needs = frozenset({"shuffled_joint_entropy"})
    monkeypatch.setattr("reluscope.measures.find", lambda name: Measure(name, joint, needs))
    monkeypatch.setattr("reluscope.measures.check_labels", lambda name, labels: None)
    monkeypatch.setattr("reluscope.measures.is_per_class", lambda name, options: False)
    values = compute([MeasureSpec("joint", {}, STEPS)], open_counts(made["shuffled"]))[0].values
    assert (values > 0).all()
