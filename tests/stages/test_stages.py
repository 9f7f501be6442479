"""Counting a shard and measuring a run, against networks loaded and counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reluscope import PatternRecorder, figures, paths, stores
from reluscope.checkpoints import open_weights
from reluscope.counts import open_counts
from reluscope.data import load
from reluscope.data.digest import digest_of
from reluscope.networks import build_network
from reluscope.series import open_series, write_series
from reluscope.stages import counting
from reluscope.stages.counting import count_shard
from reluscope.stages.drawing import at_steps, draw_figure
from reluscope.stages.measuring import compute, measure_run
from reluscope.stages.training import train_run
from reluscope.stores import StoreError
from reluscope.study import ConfigError, MeasureSpec, Study

CONFIG: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "images": 70},
    "counting": {"batch_size": 32, "steps": {"every": 1}, "shard_length": 2},
    "methods": {"stepwise": {"epochs": 1, "batch_size": 20}},
    "runs": {"a": {"network": "resnet8"}},
}


STEPS = np.arange(5)

EXACT = ["distinct_patterns", "net_pattern_changes", "entropy"]
ESTIMATED = ["weighted_jaccard_to_initial", "jaccard_to_final", "pattern_changes"]


def measured(name: str, counted: list[str], steps: np.ndarray = STEPS) -> np.ndarray:
    return compute([MeasureSpec(name, {}, steps)], open_counts(*counted))[0].values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def counted(folder: Path) -> list[str]:
    """Trains and counts; returns the shards."""
    run = Study.from_config(CONFIG).runs["a-seed0"]
    train_run(run, str(folder / "weights.zarr"), study="tiny", threads=1)
    stores = []
    for shard in run.shards:
        stores.append(str(folder / f"{shard}.zarr"))
        count_shard(run, shard, str(folder / "weights.zarr"), stores[-1], threads=1)
    return stores


def test_counts_are_those_of_plain_hooks_and_numpy(folder: Path, counted: list[str]) -> None:
    """Every layer and step recounted with hooks, bits and numpy.unique; batch-norm in training mode, batches of 32."""
    counts, weights = open_counts(*counted), open_weights(folder / "weights.zarr")
    images = load(Study.from_config(CONFIG).runs["a-seed0"].spec.data).train
    network = build_network("resnet8", in_channels=1).to(memory_format=torch.channels_last).train()
    seen: dict[str, list[np.ndarray]] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(
                    (inputs[0] > 0).permute(0, 2, 3, 1).numpy()
                )
            )
    assert counts.steps.tolist() == [0, 1, 2, 3, 4]
    for position, step in enumerate(counts.steps.tolist()):
        weights.load_into(network, step)
        seen.clear()
        with torch.no_grad():
            for start in range(0, 70, 32):
                network(images[start : start + 32])
        assert list(seen) == counts.layer_names
        for layer, bits in enumerate(seen.values()):
            rows = np.concatenate([b.reshape(-1, b.shape[-1]) for b in bits])
            patterns, number = np.unique(rows, axis=0, return_counts=True)
            keys = [sum(1 << int(c) for c in np.flatnonzero(pattern)) for pattern in patterns]
            ours = counts.at(position, layer)
            assert dict(zip(keys, number.tolist(), strict=True)) == dict(
                zip(ours.keys.tolist(), ours.counts.tolist(), strict=True)
            )


def test_stores_tell_the_number_of_threads(folder: Path, counted: list[str], tmp_path: Path) -> None:
    """It decides bits that lie at 0."""
    assert open_weights(folder / "weights.zarr").attributes["threads"] == 1
    assert {open_counts(store).attributes["threads"] for store in counted} == {1}
    torch.set_num_threads(2)
    try:
        with PatternRecorder(torch.nn.ReLU(), torch.ones(3, 4), tmp_path / "c.zarr") as recorder:
            recorder.record(0)
    finally:
        torch.set_num_threads(1)
    assert open_counts(tmp_path / "c.zarr").attributes["threads"] == 2


def test_a_measure_gets_what_its_parameters_ask_for(counted: list[str]) -> None:
    to_initial = measured("weighted_jaccard_to_initial", counted)
    to_final = measured("weighted_jaccard_to_final", counted)
    to_previous = measured("weighted_jaccard_to_previous", counted)
    assert (to_initial[0] == 1).all()
    assert (to_final[-1] == 1).all()
    assert np.isnan(to_previous[0]).all()
    np.testing.assert_array_equal(to_previous[1], to_initial[1])
    np.testing.assert_array_equal(to_previous[-1], to_final[-2])
    assert (to_final[0] < 1).all()


def test_measured_options_and_origin_are_kept(counted: list[str], tmp_path: Path) -> None:
    measure_run({str(tmp_path / "m.zarr"): MeasureSpec("occupancy", {"slots": 50}, STEPS)}, counted)
    series = open_series(tmp_path / "m.zarr")
    assert series.step.tolist() == [0, 1, 2, 3, 4]
    assert series.epoch.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert 0 < series.values.max() <= 1
    attributes = json.loads((tmp_path / "m.zarr/zarr.json").read_text())["attributes"]
    assert attributes["options"] == {"slots": 50}
    assert attributes["training"]["network"]["name"] == "resnet"


def test_counting_other_settings_stops(folder: Path, counted: list[str], tmp_path: Path) -> None:
    other = Study.from_config({**CONFIG, "methods": {"stepwise": {"epochs": 2, "batch_size": 20}}}).runs["a-seed0"]
    with pytest.raises(ConfigError, match=r"was made with method\.epochs: 1, but now it is 2"):
        count_shard(other, "00000000-00000001", str(folder / "weights.zarr"), str(tmp_path / "c.zarr"), threads=1)
    assert not list(tmp_path.iterdir())


def test_a_choice_of_layers_is_tried_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layers = {"layers": {"include": ["nope.*"]}}
    with pytest.raises(ConfigError, match=r"^runs\.a: .*nope\.\*.*activation"):
        Study.from_config({**CONFIG, "counting": {**CONFIG["counting"], **layers}})
    layers["layers"]["include"] = ["activation"]
    run = Study.from_config({**CONFIG, "counting": {**CONFIG["counting"], **layers}}).runs["a-seed0"]
    train_run(run, "w.zarr", study="s", threads=1)
    assert open_weights("w.zarr").steps.tolist() == STEPS.tolist()


def test_some_steps_are_compared_among_themselves(counted: list[str]) -> None:
    """Steps 0, 3 and 4 only: "previous" of step 3 is step 0; the final step stays the last counted one."""
    some = np.array([0, 3, 4])
    to_previous = measured("weighted_jaccard_to_previous", counted, some)
    assert np.isnan(to_previous[0]).all()
    np.testing.assert_array_equal(to_previous[1], measured("weighted_jaccard_to_initial", counted)[3])
    np.testing.assert_array_equal(to_previous[2], measured("weighted_jaccard_to_previous", counted)[4])
    np.testing.assert_array_equal(
        measured("weighted_jaccard_to_final", counted, some[:2]), measured("weighted_jaccard_to_final", counted)[[0, 3]]
    )


def test_one_pass_gives_every_measure_what_it_gets_alone(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its own steps; what several need is read once."""
    specs = [
        MeasureSpec("weighted_jaccard_to_previous", {}, np.array([0, 3, 4])),
        MeasureSpec("entropy", {}, STEPS),
        MeasureSpec("appeared", {}, STEPS[1:3]),
        MeasureSpec("jaccard_to_final", {}, STEPS),
        MeasureSpec("weighted_jaccard_to_initial", {}, STEPS[2:]),
    ]
    alone = [compute([spec], open_counts(*counted))[0] for spec in specs]
    store, reads, read = open_counts(*counted), [], stores.read

    def noted(array: Any, selection: Any = ..., **more: Any) -> Any:
        if array.basename in ("keys", "counts"):
            reads.append((str(array.store_path), str(selection)))
        return read(array, selection, **more)

    monkeypatch.setattr(stores, "read", noted)
    for series, expected in zip(compute(specs, store), alone, strict=True):
        assert (series.measure, series.step.tolist()) == (expected.measure, expected.step.tolist())
        np.testing.assert_array_equal(series.values, expected.values)
    assert len(reads) == len(set(reads))
    assert len(reads) >= 2 * 2 * len(store.layer_names)  # keys and counts of either shard


def test_a_figure_takes_its_own_steps(counted: list[str]) -> None:
    series = compute([MeasureSpec("entropy", {}, STEPS)], open_counts(*counted))[0]
    shown = at_steps(series, np.array([1, 4]))
    assert (shown.step.tolist(), shown.epoch.tolist()) == ([1, 4], [0.25, 1.0])
    np.testing.assert_array_equal(shown.values, series.values[[1, 4]])


@pytest.mark.parametrize("steps", [[2], [1, 2], [0, 5], [-1, 0]])
def test_a_figure_takes_no_neighbour_of_a_step_that_is_not_there(counted: list[str], steps: list[int]) -> None:
    series = compute([MeasureSpec("entropy", {}, STEPS[[0, 1, 3, 4]])], open_counts(*counted))[0]
    missing = next(step for step in steps if step not in (0, 1, 3, 4))
    with pytest.raises(ValueError, match=rf"expected entropy at step {missing} too, but it was measured at 4 steps"):
        at_steps(series, np.array(steps))


def test_a_figure_names_the_store_that_lacks_a_step(counted: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    figures_ = {"f": {"runs": ["a"], "measures": ["entropy"], "steps": {"every": 1}}}
    study = Study.from_config({**CONFIG, "figures": figures_})
    entropy = compute([MeasureSpec("entropy", {}, STEPS[1:])], open_counts(*counted))[0]
    write_series(entropy, Path(paths.measure("a-seed0", "entropy")), {})
    with pytest.raises(ValueError, match=r"runs/a-seed0/measures/entropy\.zarr: expected entropy at step 0 too"):
        draw_figure(study, "f", ["f.png"])
    assert not (tmp_path / "f.png").exists()


def test_a_step_that_was_not_counted_is_not_left_out_of_a_measure(counted: list[str]) -> None:
    with pytest.raises(ValueError, match=r"entropy: expected counts of step 7, but they are of CountsStore\(5 steps"):
        compute([MeasureSpec("entropy", {}, np.array([0, 7]))], open_counts(*counted))


def test_a_figure_is_drawn_from_the_stores_of_all_its_seeds(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    figure = {"runs": ["a"], "measures": ["entropy", "appeared"], "steps": {"every": 2}, "time": "step"}
    runs = {"a": {"network": "resnet8", "title": "A", "seeds": [0, 1], "steps": {"every": 1}}}
    study = Study.from_config({**CONFIG, "runs": runs, "figures": {"f": figure}})
    entropy = compute([MeasureSpec("entropy", {}, STEPS)], open_counts(*counted))[0]
    appeared = compute([MeasureSpec("appeared", {}, STEPS[::2])], open_counts(*counted))[0]
    for seed in range(2):
        write_series(entropy, Path(paths.measure(f"a-seed{seed}", "entropy")), {})
        write_series(appeared, Path(paths.measure(f"a-seed{seed}", "appeared.f")), {})
    given: dict[str, Any] = {}
    heatmaps = figures.find("heatmaps")
    draw = heatmaps.draw
    monkeypatch.setattr(
        heatmaps, "draw", lambda series, **look: given.update(look, series=series) or draw(series, **look)
    )
    draw_figure(study, "f", ["f.png", "f.pdf"])
    assert (given["runs"], given["measures"], given["time"]) == ({"a": "A"}, ["entropy", "appeared"], "step")
    for one in given["series"]["a"]["entropy"]:
        np.testing.assert_array_equal(one.values, entropy.values[::2])
    assert [len(seeds) for seeds in given["series"]["a"].values()] == [2, 2]
    assert (tmp_path / "f.png").stat().st_size > 0
    assert (tmp_path / "f.pdf").stat().st_size > 0


def test_runs_of_other_images_are_not_compared_where_the_config_says_they_are_the_same(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    figure = {"runs": ["a", "b", "c"], "measures": ["entropy"], "steps": {"every": 1}}
    runs: dict[str, Any] = {run: {"network": "resnet8"} for run in ("a", "b")}
    runs["c"] = {"network": "resnet8", "data": {**CONFIG["data"], "images": 60}}  # others, as the config says
    study = Study.from_config({**CONFIG, "runs": runs, "figures": {"f": figure}})
    series = compute([MeasureSpec("entropy", {}, STEPS)], open_counts(*counted))[0]
    for run, digest in (("a", "1"), ("b", "1"), ("c", "2")):
        write_series(series, Path(paths.measure(f"{run}-seed0", "entropy")), {"data_digest": digest})
    monkeypatch.setattr(figures, "save", lambda drawn, outputs: None)
    draw_figure(study, "f", ["f.png"])
    write_series(series, Path(paths.measure("b-seed0", "entropy")), {"data_digest": "3"})
    with pytest.raises(
        StoreError, match=r"b-seed0/measures/entropy\.zarr was made of other training images, .*/a-seed0"
    ):
        draw_figure(study, "f", ["f.png"])


def test_stores_carry_the_digest_of_the_images_and_counting_others_stops(
    folder: Path, counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Study.from_config(CONFIG).runs["a-seed0"]
    dataset = load(run.spec.data)
    digest = digest_of(dataset.train)
    measure_run({str(tmp_path / "m.zarr"): MeasureSpec("entropy", {}, STEPS)}, counted)
    for store, kind in ((folder / "weights.zarr", "weights"), (tmp_path / "m.zarr", "measure"), (counted[1], "counts")):
        assert stores.attributes_of(store, kind)["data_digest"] == digest

    turned = replace(dataset.train, images=dataset.train.images.flip(0))
    monkeypatch.setattr(counting, "load", lambda spec: replace(dataset, train=turned))
    with pytest.raises(StoreError, match=r"new\.zarr was made of other training images, .* than .*weights\.zarr"):
        count_shard(run, next(iter(run.shards)), str(folder / "weights.zarr"), str(tmp_path / "new.zarr"), threads=1)


@pytest.fixture(scope="module")
def sampled(folder: Path, counted: list[str]) -> list[str]:
    """The same weights, counted again; a quarter of pattern space is kept."""
    run = Study.from_config({**CONFIG, "counting": {**CONFIG["counting"], "sample": "1/4"}}).runs["a-seed0"]
    stores = [str(folder / f"{shard}-sampled.zarr") for shard in run.shards]
    for shard, store in zip(run.shards, stores, strict=True):
        count_shard(run, shard, str(folder / "weights.zarr"), store, threads=1)
    return stores


def test_samples_of_real_counts_are_the_counts_of_their_patterns(counted: list[str], sampled: list[str]) -> None:
    """At every step the same patterns are in or out, whatever the layer."""
    full, part = open_counts(*counted), open_counts(*sampled)
    num_kept = num_all = 0
    for layer in range(len(full.layer_names)):
        everything, kept = list(full.over_time(layer)), list(part.over_time(layer))
        inside = np.unique(np.concatenate([counts.sample.keys for counts in kept]))
        for here, counts in zip(kept, everything, strict=True):
            chosen = np.isin(counts.keys, inside)
            np.testing.assert_array_equal(here.sample.keys, counts.keys[chosen])
            np.testing.assert_array_equal(here.sample.counts, counts.counts[chosen])
            num_kept, num_all = num_kept + chosen.sum(), num_all + len(chosen)
    assert num_kept / num_all == pytest.approx(1 / 4, abs=0.02)


@pytest.mark.parametrize("name", ["weighted_jaccard_to_final", "jaccard_to_final"])
def test_a_sample_compares_with_itself_exactly(sampled: list[str], name: str) -> None:
    series = compute([MeasureSpec(name, {}, STEPS)], open_counts(*sampled))[0]
    assert series.standard_error is not None
    assert (series.values[-1] == 1).all()
    assert (series.standard_error[-1] == 0).all()


def test_measures_of_samples_are_exact_or_within_their_standard_error(counted: list[str], sampled: list[str]) -> None:
    deviations = []
    for name in EXACT + ESTIMATED:
        exact, of_sample = (compute([MeasureSpec(name, {}, STEPS)], open_counts(*s))[0] for s in (counted, sampled))
        assert exact.standard_error is None
        error = of_sample.standard_error
        assert error is not None
        np.testing.assert_array_equal(of_sample.values[error == 0], exact.values[error == 0], name)
        estimated = error > 0
        deviations += ((of_sample.values - exact.values)[estimated] / error[estimated]).tolist()
        assert estimated.any() == (name in ESTIMATED), name
    assert len(deviations) > 60
    assert (np.abs(deviations) < 1.96).mean() > 0.85


def test_a_measure_of_samples_is_kept_with_its_standard_error(sampled: list[str], tmp_path: Path) -> None:
    measure_run({str(tmp_path / "m.zarr"): MeasureSpec("appeared", {}, STEPS)}, sampled)
    series = open_series(tmp_path / "m.zarr")
    assert series.standard_error is not None
    assert np.isnan(series.standard_error[0]).all()
    assert (series.standard_error[1:] > 0).any()
    assert json.loads((tmp_path / "m.zarr/zarr.json").read_text())["attributes"]["sample"] == "1/4"
    shown = at_steps(series, np.array([1, 4]))
    np.testing.assert_array_equal(shown.standard_error, series.standard_error[[1, 4]])


def test_samples_are_not_mixed_with_all(counted: list[str], sampled: list[str]) -> None:
    with pytest.raises(StoreError, match=r"does not belong together with .*: they differ in sample"):
        open_counts(counted[0], sampled[1])


def test_paths_below_results() -> None:
    assert paths.partial(paths.counts("r", "s")) == "results/runs/r/counts/s.partial"
