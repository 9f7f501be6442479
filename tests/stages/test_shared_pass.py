"""Jobs that share a pass make what each would make alone, and read each layer's counts once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reluscope import measures, paths, stores
from reluscope.counts import CountsWriter
from reluscope.patterns import ClassCounts, PatternCounts
from reluscope.series import open_series
from reluscope.stages import shared_pass
from reluscope.stages.measuring import measure_run
from reluscope.stages.shared_pass import announce, measure_together
from reluscope.study import MeasureSpec

STEPS = np.arange(4)
NUM_LAYERS = 3
MEASURES = {
    "entropy": MeasureSpec("entropy", {}, STEPS),
    "occupancy": MeasureSpec("occupancy", {"slots": 50}, STEPS),
    "pattern_changes": MeasureSpec("pattern_changes", {}, STEPS[::2]),
    "weighted_jaccard_to_final": MeasureSpec("weighted_jaccard_to_final", {}, STEPS),
}


def write_counts(path: Path, seed: int = 0, sample: int = 1, *, labels: bool = False) -> str:
    attributes = {"labels": True, "class_names": ["a", "b", "c"]} if labels else {}
    attributes |= {"sample": f"1/{sample}"} if sample > 1 else {}
    writer = CountsWriter(path.with_suffix(".partial"), path, {"run": "r", **attributes})
    random = np.random.default_rng(seed)
    for step in STEPS.tolist():
        layers = []
        for layer in range(NUM_LAYERS):
            keys, counts = np.unique(random.integers(0, 300, 1000).astype(np.uint16), return_counts=True)
            classes = None
            if labels:
                label = random.integers(0, 3, len(keys)).astype(np.uint8)
                classes = ClassCounts(3, np.ones(len(keys), np.uint8), label, counts)
            pattern_counts = PatternCounts(f"relu{layer}", keys, counts, 16, 2, 5, classes=classes)
            layers.append(pattern_counts if sample == 1 else pattern_counts.sampled(sample))
        writer.append(step, step / 2, layers)
    writer.finish()
    return str(path)


@pytest.fixture
def counts(tmp_path: Path) -> str:
    return write_counts(tmp_path / "counts.zarr")


class Study:
    """One run's measures, each made by a call that stands for its job."""

    def __init__(self, folder: Path, counts: str, measures: dict[str, MeasureSpec], monkeypatch) -> None:
        self.counts, self.measures = counts, measures
        self.results, self.alone = folder / "results/runs/r/measures", folder / "alone"
        self.shared = folder / "results/runs/r/measures.partial"
        self.computed: list[tuple[int, int]] = []  # a layer, and how many measures of it
        compute = shared_pass.compute_layer

        def noted(computations, counts, layer) -> None:
            self.computed.append((layer, len(computations)))
            compute(computations, counts, layer)

        monkeypatch.setattr(shared_pass, "compute_layer", noted)
        monkeypatch.chdir(folder)

    def announce(self, *names: str) -> None:
        announce(names or self.measures, Path(paths.shared_pass("r")))

    def make(self, name: str) -> None:
        measure_together("r", name, self.measures, [self.counts], paths.measure("r", name))

    def check(self, name: str, bytes_below) -> None:
        """Byte for byte what it would have been alone."""
        path = self.alone / f"{name}.zarr"
        measure_run({str(path): self.measures[name]}, [self.counts])
        assert bytes_below(self.results / f"{name}.zarr") == bytes_below(path)


@pytest.fixture
def study(tmp_path: Path, counts: str, monkeypatch) -> Study:
    return Study(tmp_path, counts, MEASURES, monkeypatch)


def test_the_first_job_computes_what_was_announced_and_the_others_find_it(study: Study, bytes_below) -> None:
    study.announce()
    for name in MEASURES:
        study.make(name)
        study.check(name, bytes_below)
    assert study.computed == [(layer, len(MEASURES)) for layer in range(NUM_LAYERS)]


def test_what_was_not_announced_is_not_computed(study: Study, bytes_below) -> None:
    study.announce("entropy")
    study.make("entropy")
    study.check("entropy", bytes_below)
    assert study.computed == [(layer, 1) for layer in range(NUM_LAYERS)]


@pytest.mark.parametrize("announced", [[], ["occupancy"]])
def test_a_job_that_was_not_announced_keeps_to_itself(study: Study, bytes_below, announced: list[str]) -> None:
    """As where a storage plugin gives nodes folders of their own; jobs of one node must not disturb each other."""
    if announced:
        study.announce(*announced)
    before = bytes_below(study.shared)
    study.make("entropy")
    study.check("entropy", bytes_below)
    assert study.computed == []
    assert bytes_below(study.shared) == before


@pytest.mark.parametrize(("sample", "labels"), [(8, False), (1, True)])
def test_errors_and_values_of_classes_are_shared_too(tmp_path, bytes_below, monkeypatch, sample, labels) -> None:
    counts = write_counts(tmp_path / "counts.zarr", sample=sample, labels=labels)
    names = ["entropy_of_each_class", "mutual_information"] if labels else ["jaccard_to_final", "entropy"]
    study = Study(tmp_path, counts, {name: MeasureSpec(name, {}, STEPS) for name in names}, monkeypatch)
    study.announce()
    for name in names:
        study.make(name)
        study.check(name, bytes_below)
    assert len(study.computed) == NUM_LAYERS


def during(job: Callable[[], None]) -> Iterator[None]:
    """Let a job run in another thread; done when the loop is left."""
    thread = threading.Thread(target=job)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("computes", [True, False])
def test_a_job_waits_for_a_layer_that_another_is_at(study: Study, bytes_below, computes) -> None:
    """Until that one has computed it, or was killed; the other layers come first."""
    study.announce()
    taken = stores.lock(study.shared / "0", "measuring this layer")
    for _ in during(lambda: study.make("entropy")):
        wait_for(lambda: all((study.shared / str(layer) / "found.npz").exists() for layer in (1, 2)))
        assert study.computed == [(1, 4), (2, 4)]
        if computes:  # as another layer's values, to be told from its own
            (study.shared / "0/found.npz").write_bytes((study.shared / "1/found.npz").read_bytes())
        taken.release()
    assert study.computed == [(1, 4), (2, 4)] + ([] if computes else [(0, 4)])
    if computes:
        values = open_series(study.results / "entropy.zarr").values
        np.testing.assert_array_equal(values[:, 0], values[:, 1])
    else:
        study.check("entropy", bytes_below)


def test_a_job_does_not_wait_for_ever(study: Study, bytes_below, monkeypatch) -> None:
    """As for a job on a node that is lost, or on a disk whose locks outlive their process."""
    monkeypatch.setattr(shared_pass, "WAIT_SECONDS", 0.1)
    study.announce()
    taken = stores.lock(study.shared / "1", "measuring this layer")
    study.make("entropy")
    study.check("entropy", bytes_below)
    assert study.computed == [(0, 4), (2, 4), (1, 1)]
    taken.release()
    study.make("occupancy")
    assert study.computed[3:] == [(1, 4)]  # what was computed beside the other job was not left for others


def make_until_killed(folder: str, counts: str, name: str, layer: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        study = Study(Path(folder), counts, MEASURES, patch)
        compute = shared_pass.compute_layer

        def killed(computations, counts, at) -> None:
            if at == layer:
                os.kill(os.getpid(), signal.SIGKILL)
            compute(computations, counts, at)

        patch.setattr(shared_pass, "compute_layer", killed)
        study.make(name)


def test_after_a_kill_jobs_compute_only_their_own(study: Study, bytes_below) -> None:
    """Another job's measure may have been what took all memory; what was found before is kept."""
    study.announce()
    arguments = (str(study.results.parents[3]), study.counts, "occupancy", 1)
    job = multiprocessing.get_context("spawn").Process(target=make_until_killed, args=arguments)
    job.start()
    job.join(120)
    assert job.exitcode == -signal.SIGKILL
    for name in MEASURES:
        study.make(name)
        study.check(name, bytes_below)
    assert study.computed == [(1, 1), (2, 1)] * len(MEASURES)
    study.computed.clear()
    study.announce()  # the workflow is started again
    shutil.rmtree(study.shared / "2")
    study.make("entropy")
    assert study.computed == [(2, 4)]


def make_at_once(folder: str, counts: str, name: str, start, computed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        study = Study(Path(folder), counts, MEASURES, patch)
        start.wait()
        study.make(name)
        computed.put(study.computed)


def test_jobs_that_run_at_one_time_share_the_layers(study: Study, bytes_below) -> None:
    study.announce()
    spawn = multiprocessing.get_context("spawn")
    start, computed = spawn.Barrier(len(MEASURES)), spawn.Queue()
    jobs = [
        spawn.Process(target=make_at_once, args=(str(study.results.parents[3]), study.counts, name, start, computed))
        for name in MEASURES
    ]
    for job in jobs:
        job.start()
    layers = [layer for _ in jobs for layer in computed.get(timeout=120)]
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert sorted(layers) == [(layer, len(MEASURES)) for layer in range(NUM_LAYERS)]
    for name in MEASURES:
        study.check(name, bytes_below)


def test_a_measure_that_fails_fails_alone(study: Study, bytes_below) -> None:
    study.measures = {**MEASURES, "occupancy": MeasureSpec("occupancy", {"slots": 0}, STEPS)}
    study.announce()
    for name in ("entropy", "pattern_changes", "weighted_jaccard_to_final"):
        study.make(name)
        study.check(name, bytes_below)
    assert not list(study.shared.rglob("begun"))
    with pytest.raises(ValueError, match="slots: expected"):
        study.make("occupancy")
    study.measures = MEASURES  # it is mended, and the workflow started again
    study.announce("occupancy")
    study.make("occupancy")
    study.check("occupancy", bytes_below)


def test_a_measure_of_classes_where_none_were_counted_is_its_own_jobs_business(study: Study, bytes_below) -> None:
    study.measures = {**MEASURES, "mutual_information": MeasureSpec("mutual_information", {}, STEPS)}
    study.announce()
    study.make("entropy")
    study.check("entropy", bytes_below)
    with pytest.raises(ValueError, match=r"counting\.labels"):
        study.make("mutual_information")


def test_what_was_found_before_is_taken_where_it_still_holds(study: Study, bytes_below) -> None:
    study.announce()
    study.make("entropy")
    study.computed.clear()
    study.announce("occupancy")
    study.make("occupancy")
    study.check("occupancy", bytes_below)
    assert study.computed == []


@pytest.mark.parametrize("change", ["counts", "option", "steps", "code", "versions"])
def test_what_was_found_before_is_not_taken_where_it_may_be_another(
    study: Study, bytes_below, monkeypatch, change: str
) -> None:
    study.announce()
    study.make("entropy")
    study.computed.clear()
    changed = {
        "option": MeasureSpec("occupancy", {"slots": 51}, STEPS),
        "steps": MeasureSpec("occupancy", {}, STEPS[:2]),
    }
    if change == "counts":
        write_counts(Path(study.counts), seed=1)
    elif change in changed:
        study.measures = {**MEASURES, "occupancy": changed[change]}
    elif change == "code":
        monkeypatch.setattr(measures, "code", lambda name: f"another {name}")
    else:
        monkeypatch.setattr(stores, "versions", lambda: {"numpy": "another"})
    study.announce("occupancy")
    study.make("occupancy")
    study.check("occupancy", bytes_below)
    assert study.computed == [(layer, 1) for layer in range(NUM_LAYERS)]


@pytest.mark.parametrize("place", [0, 30, 100, -30])
def test_a_damaged_file_is_as_none(study: Study, bytes_below, place: int) -> None:
    study.announce()
    study.make("entropy")
    found = study.shared / "1" / "found.npz"
    damaged = bytearray(found.read_bytes())
    damaged[place : place + 20] = bytes(20)
    found.write_bytes(damaged[:-1])
    study.computed.clear()
    study.make("occupancy")
    study.check("occupancy", bytes_below)
    assert [layer for layer, _ in study.computed] == [1]
