"""Whatever file of a store is exchanged, cut, changed, lost or added, finished or not: it is noticed."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from torch import nn

from reluscope import open_counts, open_weights, placement, stores, verification
from reluscope.checkpoints import WeightsWriter
from reluscope.checkpoints import writer as weights_writer
from reluscope.counts import CountsWriter
from reluscope.counts import layout as counts_layout
from reluscope.patterns import PatternCounts
from reluscope.series import MeasureSeries, open_series, write_series

STEPS = np.arange(40)
NAMES = ("weights.zarr", "counts.zarr", "entropy.zarr")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores of several chunks in each direction."""
    monkeypatch.setattr(weights_writer, "BLOCK_STEPS", 16)
    monkeypatch.setattr(weights_writer, "CHUNK_VALUES", 64)
    monkeypatch.setattr(counts_layout, "CHUNK_PATTERNS", 100)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weights(folder: Path, seed: int, steps: int = 40, *, finish: bool = True) -> None:
    torch.manual_seed(seed)
    net, settings = network(), {"seed": seed}
    writer = WeightsWriter(folder / "w.partial", folder / "weights.zarr", net, STEPS, STEPS / 4, STEPS[3::4], settings)
    for step in STEPS[:steps].tolist():
        nn.init.normal_(net[0].weight)
        net[1].running_mean.normal_()
        if step % 4 == 3:
            writer.append_accuracy(float(torch.rand(())))
        writer.append({name: float(torch.rand(())) for name in weights_writer.SCALARS}, {"0": torch.rand(3)})
    if finish:
        writer.finish({})
    writer.close()


def counts_of(step: int, layer: int, seed: int) -> PatternCounts:
    keys = np.unique(np.random.default_rng([step, layer, seed]).integers(0, 1 << 16, 150)).astype(np.uint16)
    counts = np.ones(len(keys), np.int64)
    counts[0] += 150 - len(keys)
    return PatternCounts(f"relu{layer}", keys, counts, 16, 150, 1)


def count(folder: Path, seed: int, steps: int = 5, *, finish: bool = True) -> CountsWriter:
    attributes = {"run": "r", "batch_size": 3}
    source = folder / "source"
    if not source.exists():
        source.mkdir(parents=True)
        (source / "zarr.json").touch()
    writer = CountsWriter(folder / "c.partial", folder / "counts.zarr", attributes, source)
    for step in range(len(writer.steps), steps):
        writer.append(step, step / 4, [counts_of(step, layer, seed) for layer in range(2)])
    if finish:
        writer.finish()
    else:
        writer.save()
        writer.close()
    return writer


def run(folder: Path, seed: int) -> Path:
    weights(folder, seed)
    count(folder, seed)
    values = np.random.default_rng(seed).random((5, 2))
    series = MeasureSeries("entropy", values, np.arange(5), np.arange(5) / 4, ["a", "b"], np.zeros(2))
    write_series(series, folder / "entropy.zarr", {"seed": seed})
    return folder


def read_all(folder: Path) -> None:
    store, net = open_weights(folder / "weights.zarr"), network()
    for step in store.steps.tolist():
        store.load_into(net, step)
    for name in weights_writer.SCALARS:
        store.scalar(name)
    counts = open_counts(folder / "counts.zarr")
    _ = [(of.keys, of.counts) for layer in range(2) for of in counts.over_time(layer)]
    open_series(folder / "entropy.zarr")


def is_read(file: str) -> bool:
    """Whether reading needs the file; it takes arrays' metadata from the store's own."""
    unused = ("distinct_patterns", "expected_collisions", "counts.zarr/layer/")
    return not any(name in file for name in unused) and (file.count("/") == 1 or "/c/" in file)


def mutations(folder: Path, other: Path) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """What is done, and what files of which names then hold; None where they are gone."""
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for name in NAMES
        for file in sorted((folder / name).rglob("*"))
        if file.is_file()
    }
    for one, two in itertools.combinations(files, 2):
        if ("/c/" in one) == ("/c/" in two) and files[one] != files[two]:
            yield f"{one} exchanged with {two}", {one: files[two], two: files[one]}
    for name, data in files.items():
        if (other / name).exists() and (other / name).read_bytes() != data:
            yield f"{name} of another store", {name: (other / name).read_bytes()}
        yield f"{name} cut off", {name: data[: len(data) // 2]}
        yield f"{name} empty", {name: b""}
        yield f"{name} lost", {name: None}
        for place in (0, len(data) // 2, len(data) - 1):
            yield f"{name} flipped at {place}", {name: data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]}


def check(folder: Path, change: dict[str, bytes | None]) -> None:
    """The change must be seen by `damages`, and by reading where a file is read; then it is undone."""
    before = {name: (folder / name).read_bytes() for name in change}
    for name, data in change.items():
        (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
    changed = {name.partition("/")[0] for name in change}
    for store in changed:
        assert list(verification.damages(folder / store))
    if any(map(is_read, change)):
        with pytest.raises(stores.StoreError):
            read_all(folder)
    for name, data in before.items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        _small.__wrapped__(patch)
        return run(folder / "a", 0), run(folder / "b", 1)


def test_a_sample_of_all_changes_is_noticed(two_runs: tuple[Path, Path]) -> None:
    """Of exchanged pairs, cuts, flips and losses; the slow test tries them all."""
    for _, change in random.Random(0).sample(list(mutations(*two_runs)), 60):
        check(two_runs[0], change)
    read_all(two_runs[0])
    assert not [damage for name in NAMES for damage in verification.damages(two_runs[0] / name)]


@pytest.mark.slow
def test_all_changes_are_noticed(two_runs: tuple[Path, Path]) -> None:
    for _, change in mutations(*two_runs):
        check(two_runs[0], change)


def test_exchanged_time_blocks_are_neither_read_nor_sound(tmp_path: Path) -> None:
    """Each is whole, and of the same shape: only its name says when it was."""
    weights(tmp_path, 0)
    store = tmp_path / "weights.zarr"
    chunks = [store / f"parameters/c/0/{block}" for block in (0, 1)]
    first, second = (chunk.read_bytes() for chunk in chunks)
    chunks[0].write_bytes(second)
    chunks[1].write_bytes(first)
    with pytest.raises(stores.StoreError, match=r"parameters, steps 0 to 15, is damaged \(parameters/c/0/0 is not"):
        open_weights(store).load_into(network(), 0)
    assert list(verification.damages(store)) == [
        "parameters, steps 0 to 15: parameters/c/0/0 is not the file that was written there",
        "parameters, steps 16 to 31: parameters/c/0/1 is not the file that was written there",
    ]


def test_changed_attributes_are_noticed(two_runs: tuple[Path, Path]) -> None:
    metadata = (two_runs[0] / "counts.zarr/zarr.json").read_text()
    changed = metadata.replace('"batch_size": 3', '"batch_size": 4')
    assert changed != metadata
    check(two_runs[0], {"counts.zarr/zarr.json": changed.encode()})


@pytest.mark.parametrize(
    "name", ["parameters/c/999", "parameters/c/0/7", "parameters/c/0/01", "parameters/c/0/0/0", "step/c/1"]
)
@pytest.mark.parametrize("is_old", [False, True])
def test_a_stray_chunk_is_named_alike_by_reading_and_verify(
    tmp_path: Path, forget_manifest, name: str, is_old: bool
) -> None:
    weights(tmp_path, 0)
    store = tmp_path / "weights.zarr"
    if is_old:
        forget_manifest(store)
    if name.endswith("0/0/0"):
        name = "parameters/c/9/0/0"
    (store / name).parent.mkdir(exist_ok=True, parents=True)
    (store / name).write_bytes(b"stray")
    with pytest.raises(stores.StoreError, match=f"{name} does not belong to the store; delete that file$"):
        open_weights(store)
    assert list(verification.damages(store)) == [f"{name} does not belong to the store"]
    (store / name).unlink()
    (store / "parameters" / ".DS_Store").touch()  # of a file browser
    assert not list(verification.damages(store))
    open_weights(store)


def test_xarray_opens_stores_without_a_warning(two_runs: tuple[Path, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
        for name in NAMES:
            xarray.open_zarr(two_runs[0] / name).load()


def test_a_manifest_that_is_lost_or_damaged_is_said(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    store = shutil.copytree(two_runs[0] / "entropy.zarr", tmp_path / "entropy.zarr")
    manifest = store / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b"step/c/0", b"step/c/1"))
    for damage in (r"manifest\.json: it is damaged", r"manifest\.json: it is missing"):
        with pytest.raises(stores.StoreError, match=damage):
            open_series(store)
        assert [line for line in verification.damages(store) if line.startswith(damage.replace("\\", ""))]
        manifest.unlink(missing_ok=True)
    manifest.write_bytes(whole)
    open_series(store)


def test_stores_made_before_manifests_open_and_verify_says_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forget_manifest
) -> None:
    from reluscope import cli

    run(tmp_path, 0)
    for name in NAMES:
        forget_manifest(tmp_path / name)
    read_all(tmp_path)
    assert cli.main(["verify", *(str(tmp_path / name) for name in NAMES)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 stores read, 0 damaged"
    assert said[1].startswith("of 3, made before stores kept a manifest (")
    assert said[1].endswith("it is not known whether every file lies at its own place")


def parts(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "lock")


def test_unfinished_weights_whose_files_were_exchanged_are_not_continued(tmp_path: Path) -> None:
    """Nor those with the state of another training; all of it is kept."""
    weights(tmp_path / "other", 0, 24, finish=False)
    weights(tmp_path, 0, 36, finish=False)
    store = tmp_path / "w.partial" / "weights.zarr"
    for one, two in (("parameters/c/0/0", "parameters/c/0/1"), ("train_loss/c/0", "learning_rate/c/0")):
        before = [(store / name).read_bytes() for name in (one, two)]
        (store / one).write_bytes(before[1])
        (store / two).write_bytes(before[0])
        with pytest.raises(
            stores.StoreError, match=r"w\.partial: cannot be continued: .* is not the file that was written there; put"
        ):
            weights(tmp_path, 0)
        (store / one).write_bytes(before[0])
        (store / two).write_bytes(before[1])
    state = tmp_path / "w.partial" / "state.pt"
    own = state.read_bytes()
    state.write_bytes((tmp_path / "other" / "w.partial" / "state.pt").read_bytes())
    with pytest.raises(stores.StoreError, match=r"state\.pt is not the file that was written there"):
        weights(tmp_path, 0)
    state.write_bytes(own)
    writer = WeightsWriter(
        tmp_path / "w.partial", tmp_path / "weights.zarr", network(), STEPS, STEPS / 4, STEPS[3::4], {"seed": 0}
    )
    assert writer.resume_step == 31
    writer.close()


def test_unfinished_counts_whose_files_were_exchanged_are_counted_anew(tmp_path: Path) -> None:
    count(tmp_path, 0, 3, finish=False)
    chunks = [tmp_path / f"c.partial/counts.zarr/layer00{layer}/keys/c/1" for layer in (0, 1)]
    first, second = (chunk.read_bytes() for chunk in chunks)
    chunks[0].write_bytes(second)
    chunks[1].write_bytes(first)
    count(tmp_path, 0)
    counts = open_counts(tmp_path / "counts.zarr")
    for layer, step in itertools.product(range(2), range(5)):
        np.testing.assert_array_equal(counts.at(step, layer).keys, counts_of(step, layer, 0).keys)


def test_an_older_file_of_the_same_name_is_not_taken_for_the_saved_one(tmp_path: Path) -> None:
    """As a backup that was played back over part of a folder leaves it: Zarr would read zeros for the later steps."""
    count(tmp_path, 0, 1, finish=False)
    chunk = tmp_path / "c.partial/counts.zarr/layer000/keys/c/1"
    older = chunk.read_bytes()
    count(tmp_path, 0, 2, finish=False)
    assert chunk.read_bytes() != older
    chunk.write_bytes(older)
    count(tmp_path, 0)
    counts = open_counts(tmp_path / "counts.zarr")
    np.testing.assert_array_equal(counts.at(1, 0).keys, counts_of(1, 0, 0).keys)


def test_a_file_that_was_written_after_the_last_save_is_no_damage(tmp_path: Path) -> None:
    """A job killed between a chunk and the state that speaks of it, and in the middle of a line of the journal."""
    count(tmp_path, 0, 2, finish=False)
    state = (tmp_path / "c.partial/state.json").read_bytes()
    journal = tmp_path / "c.partial/counts.zarr" / placement.JOURNAL
    count(tmp_path, 0, 3, finish=False)
    (tmp_path / "c.partial/state.json").write_bytes(state)
    lines = journal.read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if "state.json" in line)
    journal.write_text("\n".join(lines[:last]) + '\n["layer000/ke')
    assert count(tmp_path, 0, 2, finish=False).steps == [0, 1]
    count(tmp_path, 0)
    assert open_counts(tmp_path / "counts.zarr").steps.tolist() == [0, 1, 2, 3, 4]


def test_unfinished_work_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    """It has no journal."""
    weights(tmp_path / "whole", 0)
    weights(tmp_path, 0, 36, finish=False)
    (tmp_path / "w.partial/weights.zarr" / placement.JOURNAL).unlink()
    writer = WeightsWriter(
        tmp_path / "w.partial", tmp_path / "weights.zarr", network(), STEPS, STEPS / 4, STEPS[3::4], {"seed": 0}
    )
    assert writer.resume_step == 31
    for _ in STEPS[32:]:
        writer.append({}, {})
    writer.finish({})
    assert not list(verification.damages(tmp_path / "weights.zarr"))


def test_a_store_whose_files_were_changed_meanwhile_is_not_finished(tmp_path: Path) -> None:
    group = stores.create_group(tmp_path / "s.partial", {})
    array = stores.create_array(group, "a", shape=(8,), dimensions=("x",), dtype=np.float64, chunks=(4,))
    array[:] = np.arange(8.0)
    (tmp_path / "s.partial/a/c/0").write_bytes((tmp_path / "s.partial/a/c/1").read_bytes())
    with pytest.raises(stores.StoreError, match="cannot be finished: a/c/0 is not the file that was written there"):
        stores.finish(tmp_path / "s.partial", tmp_path / "s.zarr", group)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**13, 10**13]},
        {"shape": [10**13, 0]},
        {
            "shape": [10**13, 10**13],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**13, 10**13]}},
        },
        {"shape": [-1, 40]},
        {"codecs": [{"name": "martian"}]},
        {"codecs": []},
        {"data_type": "complex77"},
        {"chunk_grid": None},
        {"dimension_names": ["x"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_old", [False, True])
def test_broken_metadata_name_the_store_and_the_array(tmp_path: Path, forget_manifest, change, is_old: bool) -> None:
    """In no time and without their memory; and what else is damaged is told too."""
    weights(tmp_path, 0)
    store = tmp_path / "weights.zarr"
    if is_old:
        forget_manifest(store)
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["consolidated_metadata"]["metadata"]["parameters"].update(change)
    own = json.loads((store / "parameters/zarr.json").read_text()) | change
    (store / "zarr.json").write_text(json.dumps(metadata))
    (store / "parameters/zarr.json").write_text(json.dumps(own))
    (store / "epoch/zarr.json").unlink()
    with pytest.raises(stores.StoreError, match=rf"^{store}: .*({'' if is_old else 'zarr.json is not|'}parameters)"):
        open_weights(store).load_into(network(), 0)
    damages = list(verification.damages(store))
    assert any(damage.startswith(("parameters", "array parameters")) for damage in damages)
    assert "epoch/zarr.json: it is missing" in damages
