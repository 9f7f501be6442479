"""Recording in a training loop gives the counts of `count_patterns`, and leaves the training's every bit alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from reluscope import PatternRecorder, count_patterns, open_counts, stores
from reluscope.counts import writer as writer_module
from reluscope.preactivations.warned import CountingWarning

STEPS = (0, 1, 2, 5, 8)


def network_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 16, 9),
        nn.ReLU(),
        nn.Linear(9, 3),
    )


def images_of(n: int = 50) -> torch.Tensor:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))


class DrawingImages:
    """Images whose slices draw from every global random state, as a careless data set does."""

    def __init__(self, images: torch.Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, item: slice) -> torch.Tensor:
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002 - the state that must not run on
        return self._images[item]


def train(path: Path | None, *, between: bool = False) -> tuple[nn.Module, dict[str, object]]:
    """A training that uses every random state; records to `path` after the steps, or between forward and backward."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - see above
    network, images = network_of(), images_of()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    data = TensorDataset(images, torch.arange(50) % 3)
    recorder = None if path is None else PatternRecorder(network, DrawingImages(images), path, batch_size=16)
    losses: list[float] = []
    if recorder and not between:
        recorder.record(0)
    step = 0
    for _ in range(2):
        for inputs, labels in DataLoader(data, batch_size=13, shuffle=True):
            noise = random.random() + np.random.rand()  # noqa: NPY002
            loss = functional.cross_entropy(network(inputs + 0.1 * noise), labels)
            optimizer.zero_grad()
            if recorder and between:
                recorder.record(step)
            loss.backward()
            optimizer.step()
            step += 1
            losses.append(loss.item())
            if recorder and not between and step in STEPS:
                recorder.record(step, epoch=step / 4)
    if recorder:
        recorder.close()
    state = {
        "network": network.state_dict(),
        "gradients": [p.grad for p in network.parameters()],
        "optimizer": optimizer.state_dict()["state"],
        "losses": losses,
        "draws": (torch.rand(3), random.random(), np.random.rand()),  # noqa: NPY002
        "modes": [m.training for m in network.modules()],
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules()],
        "settings": (torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()),
    }
    return network, state


def assert_same_bits(one: object, other: object) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=False)


@pytest.mark.parametrize("between", [False, True])
def test_a_training_ends_with_the_same_bits(tmp_path: Path, between: bool) -> None:
    _, without = train(None)
    _, recorded = train(tmp_path / "counts.zarr", between=between)
    for name, value in without.items():
        assert_same_bits(recorded[name], value)
    assert len(open_counts(tmp_path / "counts.zarr").steps) == (8 if between else 5)


def test_the_store_holds_what_count_patterns_counts(tmp_path: Path) -> None:
    images, expected = images_of(), {}
    with PatternRecorder(network_of(), images, tmp_path / "c.zarr", batch_size=16) as recorder:
        for step in STEPS:
            for parameter in recorder._network.parameters():
                nn.init.normal_(parameter, generator=torch.Generator().manual_seed(step))
            recorder.record(step, epoch=step / 4)
            expected[step] = count_patterns(recorder._network, images, batch_size=16)
    store = open_counts(tmp_path / "c.zarr")
    assert store.steps.tolist() == list(STEPS)
    assert store.epochs.tolist() == [step / 4 for step in STEPS]
    assert store.attributes["batch_size"] == 16
    for row, step in enumerate(STEPS):
        for layer in range(2):
            np.testing.assert_array_equal(store.at(row, layer).keys, expected[step][layer].keys)
            np.testing.assert_array_equal(store.at(row, layer).counts, expected[step][layer].counts)
    assert xarray.open_zarr(tmp_path / "c.zarr").layer_name.values.tolist() == ["2", "6"]
    assert not list(tmp_path.glob("*.partial"))


def test_autocast_around_it_changes_no_count_and_no_gradient(tmp_path: Path) -> None:
    def gradients(recorder: PatternRecorder | None) -> list[torch.Tensor]:
        network = network_of()
        with torch.autocast("cpu", torch.bfloat16):
            if recorder:
                recorder._network = network
                recorder.record(0)
            network(images_of()).sum().backward()
        return [p.grad for p in network.parameters()]

    with PatternRecorder(network_of(), images_of(), tmp_path / "c.zarr") as recorder:
        assert_same_bits(gradients(recorder), gradients(None))
    np.testing.assert_array_equal(
        open_counts(tmp_path / "c.zarr").at(0, 0).counts, count_patterns(network_of(), images_of())[0].counts
    )


def test_a_sample_is_that_of_the_counts(tmp_path: Path) -> None:
    network, images = network_of(), images_of()
    with PatternRecorder(network, images, tmp_path / "c.zarr", sample="1/2") as recorder:
        recorder.record(0)
    found, expected = open_counts(tmp_path / "c.zarr").at(0, 1), count_patterns(network, images)[1].sampled(2)
    np.testing.assert_array_equal(found.sample.keys, expected.sample.keys)
    assert found.entropy == expected.entropy


def test_classes_and_layers_are_those_of_count_patterns(tmp_path: Path) -> None:
    network, images, labels = network_of(), images_of(), np.arange(50) % 3
    chosen = {"include": "6", "labels": torch.from_numpy(labels), "shuffled_labels": True}
    for number, names in enumerate((None, ["cat", "dog", "eel", "fox"])):
        path = tmp_path / f"{number}.zarr"
        with PatternRecorder(network, images, path, batch_size=16, class_names=names, **chosen) as recorder:
            recorder.record(3)
        store = open_counts(path)
        assert store.layer_names == ["6"]
        assert store.class_names == (names or ["0", "1", "2"])
        (expected,) = count_patterns(network, images, 16, **chosen)
        kept = store.at(0, 0, classes=True)
        assert kept.shuffled_joint_entropy == expected.shuffled_joint_entropy
        for label in range(3):
            np.testing.assert_array_equal(kept.of_class(label).keys, expected.of_class(label).keys)
            np.testing.assert_array_equal(kept.of_class(label).counts, expected.of_class(label).counts)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network, images, path = network_of(), images_of(), tmp_path / "a.zarr"
    labels = np.arange(50) % 3
    with pytest.raises(ValueError, match="sample: does not go with labels"):
        PatternRecorder(network, images, path, labels=labels, sample="1/2")
    with pytest.raises(ValueError, match="class_names: expected 3, one for each class of the labels, but got 1"):
        PatternRecorder(network, images, path, labels=labels, class_names=["cat"])
    recorder = PatternRecorder(network, images, path, labels=labels)
    recorder.record(0)
    recorder.close(finish=False)
    with pytest.raises(stores.StoreError, match="it was begun with labels_digest"):
        PatternRecorder(network, images, path, labels=labels[::-1].copy())


def test_steps_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    with PatternRecorder(network_of(), images_of(), tmp_path / "c.zarr") as recorder:
        recorder.record(3)
        with pytest.raises(ValueError, match=r"step 3: expected one after step 3, the last that was recorded"):
            recorder.record(3)
        recorder.rewind(3)
        assert recorder.last_step is None
        recorder.record(3)
    assert open_counts(tmp_path / "c.zarr").steps.tolist() == [3]


def test_a_first_mistake_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Flatten(2), nn.Unflatten(1, (2, 3)), nn.ReLU())
    images = torch.randn(4, 1, 8, 8)

    def record(**given: object) -> None:
        with PatternRecorder(network, images, tmp_path / "c.zarr", **given) as recorder:
            recorder.record(0)

    with pytest.raises(ValueError, match="include: 'no'"):
        record(include="no")
    record(channel_axis=1)
    assert open_counts(tmp_path / "c.zarr").steps.tolist() == [0]


def test_a_step_is_a_whole_number_of_an_open_recording(tmp_path: Path) -> None:
    recorder = PatternRecorder(network_of(), images_of(), tmp_path / "c.zarr", batch_size=np.int64(16))
    for step in (1.5, -3, True, "1"):
        with pytest.raises(ValueError, match="step: expected a whole number from 0"):
            recorder.record(step)
    recorder.record(np.int64(2))
    recorder.close()
    with pytest.raises(RuntimeError, match="step 3: the recording was closed"):
        recorder.record(3)


def test_what_rewinds_and_what_begins_a_recording_is_checked(tmp_path: Path) -> None:
    network, images, path = network_of(), images_of(), tmp_path / "c.zarr"
    for sizes in ({"batch_size": 0}, {"batch_size": 16.0}, {"batches_at_once": True}):
        with pytest.raises(ValueError, match=f"{next(iter(sizes))}: expected a whole number from 1"):
            PatternRecorder(network, images, path, **sizes)
    for labels in (["a"] * 50, np.full(50, 0.5)):
        with pytest.raises(TypeError, match="labels: expected whole numbers"):
            PatternRecorder(network, images, path, labels=labels)
    for labels in (np.full(50, -1), np.zeros(3, int), np.zeros((50, 1), int)):
        with pytest.raises(ValueError, match="labels: expected"):
            PatternRecorder(network, images, path, labels=labels)
    assert list(tmp_path.iterdir()) == []
    recorder = PatternRecorder(network, images, path)
    recorder.record(1)
    for step in (-1, 0.5, True, "1"):
        with pytest.raises(ValueError, match="step: expected a whole number from 0"):
            recorder.rewind(step)
    for step in (1 << 62, 1 << 70):
        with pytest.raises(ValueError, match="step: expected less than"):
            recorder.record(step)
    recorder.record(2)
    recorder.close()
    assert open_counts(path).steps.tolist() == [1, 2]


def test_a_stopped_recording_goes_on_and_only_then_bears_its_name(tmp_path: Path) -> None:
    path, network, images = tmp_path / "c.zarr", network_of(), images_of()

    def stopped() -> None:
        with PatternRecorder(network, images, path) as recorder:
            recorder.record(0)
            recorder.record(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(stores.StoreError, match="there is none"):
        open_counts(path)
    with pytest.raises(stores.StoreError, match="unfinished"):
        open_counts(tmp_path / "c.partial" / "counts.zarr")
    with pytest.raises(stores.StoreError, match=r"cannot be continued: .*batch_size: 128, but now it is 10"):
        PatternRecorder(network, images, path, batch_size=10)
    with PatternRecorder(network, images, path) as recorder:
        assert recorder.last_step == 4
        recorder.record(5)
    assert open_counts(path).steps.tolist() == [0, 4, 5]
    with pytest.raises(stores.StoreError, match=r"c\.zarr: is finished already; record into another store"):
        PatternRecorder(network, images, path)


def test_a_closed_recording_says_so_and_writes_nothing(tmp_path: Path, bytes_below) -> None:
    network, images = network_of(), images_of()
    recorder = PatternRecorder(network, images, tmp_path / "c.zarr")
    recorder.record(0)
    recorder.record(2)
    recorder.close(finish=False)
    before = bytes_below(tmp_path)
    with PatternRecorder(network, images, tmp_path / "c.zarr") as other:  # which has the folder now
        for call in (recorder.save, lambda: recorder.rewind(1), lambda: recorder.record(3)):
            with pytest.raises(RuntimeError, match="closed; go on with a new recorder for the same path"):
                call()
        recorder.close()  # once more, which does nothing
        assert bytes_below(tmp_path) == before
        other.record(3)
        other.close()
    assert open_counts(tmp_path / "c.zarr").steps.tolist() == [0, 2, 3]
    for call in (other.save, lambda: other.rewind(1)):
        with pytest.raises(RuntimeError, match="the recording was closed; make a recorder for another store"):
            call()
    assert open_counts(tmp_path / "c.zarr").steps.tolist() == [0, 2, 3]


def test_a_recording_that_goes_on_elsewhere_says_from_which_step(tmp_path: Path, monkeypatch) -> None:
    """Another number of threads and other versions, and after a rewind from an earlier step."""
    network, images, path = network_of(), images_of(), tmp_path / "c.zarr"
    recorder = PatternRecorder(network, images, path)
    for step in range(4):
        recorder.record(step)
    recorder.close(finish=False)
    versions = stores.versions()
    monkeypatch.setattr(stores, "versions", lambda: versions | {"torch": "9.9"})
    recorder = PatternRecorder(network, images, path)
    recorder.close(finish=False)
    for step in (3, 2):
        recorder = PatternRecorder(network, images, path)
        recorder.rewind(step)
        recorder.record(step)
        recorder.close(finish=False)
    with PatternRecorder(network, images, path) as recorder:
        recorder.record(5)
    attributes = open_counts(path).attributes
    assert attributes["versions"] == versions
    (change,) = attributes["resumed"]
    assert (change["step"], change["versions"]["torch"]) == (1, "9.9")


def test_a_machine_that_made_no_step_is_not_named(tmp_path: Path, monkeypatch) -> None:
    """Opened elsewhere, closed without a step, and gone on with where it began, twice."""
    network, images, path = network_of(), images_of(), tmp_path / "c.zarr"
    here = stores.versions()
    for step, versions in ((0, here), (None, here | {"torch": "9.9"}), (1, here), (2, here)):
        monkeypatch.setattr(stores, "versions", lambda versions=versions: versions)
        recorder = PatternRecorder(network, images, path)
        if step is not None:
            recorder.record(step)
        recorder.close(finish=step == 2)
    assert "resumed" not in open_counts(path).attributes


@pytest.mark.filterwarnings("ignore::reluscope.preactivations.warned.CountingWarning")
def test_what_is_not_counted_stays_noted_where_steps_are_forgotten_elsewhere(tmp_path: Path, monkeypatch) -> None:
    network, images, path = nn.Sequential(network_of(), nn.GELU()), images_of(), tmp_path / "c.zarr"
    recorder = PatternRecorder(network, images, path)
    for step in range(2):
        recorder.record(step)
    recorder.close(finish=False)
    versions = stores.versions() | {"torch": "9.9"}
    monkeypatch.setattr(stores, "versions", lambda: versions)
    recorder = PatternRecorder(network, images, path)
    recorder.record(2)
    recorder.rewind(2)
    recorder.close()
    assert [one["name"] for one in open_counts(path).not_counted] == ["1"]


def test_a_recording_all_of_which_is_made_again_elsewhere_is_of_there(tmp_path: Path, monkeypatch) -> None:
    network, images, path = network_of(), images_of(), tmp_path / "c.zarr"
    recorder = PatternRecorder(network, images, path)
    recorder.record(3)
    recorder.close(finish=False)
    versions = stores.versions() | {"torch": "9.9"}
    monkeypatch.setattr(stores, "versions", lambda: versions)
    with PatternRecorder(network, images, path) as recorder:
        recorder.rewind(0)
        recorder.record(0)
    attributes = open_counts(path).attributes
    assert (attributes["versions"], "resumed" in attributes) == (versions, False)


def test_a_recording_goes_on_over_the_same_images_only(tmp_path: Path) -> None:
    path, network, images = tmp_path / "c.zarr", network_of(), images_of()
    recorder = PatternRecorder(network, images, path)
    recorder.record(0)
    recorder.close(finish=False)
    for others in (images.flip(0), images[1:]):
        with pytest.raises(
            stores.StoreError, match=r"cannot be continued: it was begun with (data_digest|num_images): "
        ):
            PatternRecorder(network, others, path)
    state = tmp_path / "c.partial" / "state.json"
    begun = json.loads(state.read_text())
    digest = begun["attributes"].pop("data_digest")  # as an earlier version left it
    state.write_text(json.dumps(begun))
    (tmp_path / "c.partial" / "counts.zarr" / "journal.jsonl").unlink()
    with PatternRecorder(network, images.clone(), path) as recorder:
        recorder.record(1)
    assert open_counts(path).attributes.get("data_digest") in (None, digest)

    with PatternRecorder(network, images, tmp_path / "d.zarr") as recorder:
        recorder.record(5)
    with PatternRecorder(network, images.flip(0), tmp_path / "e.zarr") as recorder:
        recorder.record(9)
    with pytest.raises(stores.StoreError, match=r"e\.zarr was made of other training images"):
        open_counts(tmp_path / "d.zarr", tmp_path / "e.zarr")


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, {here!r}); from test_recording import *\n"
        "recorder = PatternRecorder(network_of(), images_of(), {path!r})\n"
        "recorder.record(0); recorder.record(1); recorder.save(); recorder.record(2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    ).format(here=str(Path(__file__).parent), path=str(tmp_path / "c.zarr"))
    killed = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "c.zarr").exists()
    with PatternRecorder(network_of(), images_of(), tmp_path / "c.zarr") as recorder:
        assert recorder.last_step == 1
        recorder.record(2)
    assert open_counts(tmp_path / "c.zarr").steps.tolist() == [0, 1, 2]


def test_recording_nothing_and_bad_names_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="expected at least one counted step, got none"):
        PatternRecorder(network_of(), images_of(), tmp_path / "c.zarr").close()
    with pytest.raises(ValueError, match=r"path: expected a name that ends in \.zarr, but got counts"):
        PatternRecorder(network_of(), images_of(), "counts")
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    recorder = PatternRecorder(network_of(), images_of(), tmp_path / "d.zarr")
    with pytest.raises(stores.StoreError, match="another process is counting here"):
        PatternRecorder(network_of(), images_of(), tmp_path / "d.zarr")
    recorder.close(finish=False)


def test_what_is_not_counted_is_told_and_kept(tmp_path: Path, forget_manifest) -> None:
    """Also beside a store of which it is not known, as those that were made earlier."""
    network, images = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.GELU(), nn.Tanh()), torch.randn(9, 4)
    with PatternRecorder(network, images, tmp_path / "a.zarr") as recorder:
        for step in (0, 1):
            with pytest.warns(CountingWarning, match="^2 of 3 activations are not counted"):
                recorder.record(step)
    kept = open_counts(tmp_path / "a.zarr").not_counted
    assert kept is not None
    assert [(one["name"], one["operation"]) for one in kept] == [("2", "GELU"), ("3.tanh", "tanh")]
    with PatternRecorder(network, images, tmp_path / "b.zarr", exclude=["2", "3.tanh"]) as recorder:
        recorder.record(2)
    assert open_counts(tmp_path / "b.zarr").not_counted == []
    forget_manifest(tmp_path / "b.zarr")
    described = tmp_path / "b.zarr" / "zarr.json"
    metadata = json.loads(described.read_text())
    del metadata["attributes"]["not_counted"]
    metadata["attributes"]["layers"] = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"][
        "layers"
    ]
    described.write_text(json.dumps(metadata))
    assert open_counts(tmp_path / "b.zarr").not_counted is None
    both = open_counts(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert both.not_counted is None
    assert both.steps.tolist() == [0, 1, 2]
