"""`reluscope verify` finds every kind of damage, names its place, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from reluscope import cli, open_counts, open_weights, stores
from reluscope.checkpoints import WeightsWriter
from reluscope.checkpoints import writer as weights_writer
from reluscope.counts import CountsWriter
from reluscope.counts import layout as counts_layout
from reluscope.patterns import PatternCounts
from reluscope.series import MeasureSeries, open_series, write_series

STEPS = np.arange(0, 140, 2)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's weights (two blocks of steps), counts (several chunks a layer) and one measure."""
    monkeypatch.setattr(counts_layout, "CHUNK_PATTERNS", 100)
    monkeypatch.setattr(weights_writer, "BLOCK_STEPS", 64)
    run = tmp_path / "results" / "runs" / "r"
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    settings = (STEPS, STEPS / 4, STEPS[:0], {"run": "r"})
    weights = WeightsWriter(run / "weights.zarr.partial", run / "weights.zarr", network, *settings)
    for _ in STEPS:
        nn.init.normal_(network.weight)
        weights.append({}, {})
    weights.finish({})
    shard = np.arange(5)
    counts = CountsWriter(run / "counts" / "a.partial", run / "counts" / "a.zarr", {"run": "r"}, run / "weights.zarr")
    for step in shard.tolist():
        keys = np.unique(np.random.default_rng(step).integers(0, 1 << 16, 150)).astype(np.uint16)
        counts.append(step, step / 4, [PatternCounts("relu", keys, np.ones(len(keys), np.int64), 16)])
    counts.finish()
    series = MeasureSeries("entropy", np.random.default_rng(0).random((5, 1)), shard, shard / 4, ["relu"], np.zeros(1))
    write_series(series, run / "measures" / "entropy.zarr", {})
    return tmp_path / "results"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def verify(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, str]:
    status = cli.main(["verify", *map(str, paths)])
    output = capsys.readouterr()
    return status, output.out + output.err


def test_whole_stores_are_sound(results: Path, capsys) -> None:
    (results / "runs" / "r" / "other.zarr.partial" / "weights.zarr").mkdir(parents=True)  # unfinished work is no damage
    assert verify(capsys, results) == (0, "3 stores read, 0 damaged\n")


@pytest.mark.parametrize(
    ("chunk", "place"),
    [
        ("weights.zarr/parameters/c/0/1", "parameters, steps 128 to 138: "),
        ("weights.zarr/train_loss/c/0", "train_loss, steps 0 to 138: "),
        ("weights.zarr/epoch/c/0", "epoch, steps 0 to 138: "),
        ("weights.zarr/step/c/0", "step: "),
        ("counts/a.zarr/layer000/keys/c/0", "layer000/keys, step 0: "),
        ("counts/a.zarr/layer000/counts/c/1", "layer000/counts, steps 0 to 1: "),
        ("measures/entropy.zarr/entropy/c/0/0", "entropy, steps 0 to 4: "),
    ],
)
def test_a_flipped_byte_and_a_lost_chunk_are_named(results: Path, capsys, chunk: str, place: str) -> None:
    file = results / "runs" / "r" / chunk
    flip(file)
    status, output = verify(capsys, results)
    assert status == 1
    assert f".zarr: {place}Stored and computed checksum do not match" in output
    store = results / "runs" / "r" / f"{chunk.split('.zarr')[0]}.zarr"
    assert f"rm -r {store} && snakemake --cores all {store.relative_to(results.parent)}\n" in output
    assert output.endswith("3 stores read, 1 damaged\n")
    file.unlink()
    assert f".zarr: {place}the chunk is missing" in verify(capsys, results)[1]


def test_every_flipped_byte_is_noticed(results: Path, capsys) -> None:
    """Each byte of a small chunk, and of a long one some at random."""
    file = results / "runs" / "r" / "weights.zarr" / "parameters" / "c" / "0" / "0"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).choice(len(whole), 40, replace=False).tolist():
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        assert verify(capsys, results / "runs" / "r" / "weights.zarr")[0] == 1


def test_damaged_and_unfinished_metadata_is_named(results: Path, capsys) -> None:
    metadata = results / "runs" / "r" / "weights.zarr" / "zarr.json"
    whole = metadata.read_text()
    metadata.write_text(whole[:-20])
    assert "weights.zarr: the weights or counts or measure store is damaged (zarr.json: " in verify(capsys, results)[1]
    changed = json.loads(whole)
    del changed["attributes"]["complete"]
    metadata.write_text(json.dumps(changed))
    assert "store is unfinished" in verify(capsys, results)[1]


@pytest.mark.parametrize("array", ["entropy", "step"])
def test_a_lost_array_is_named(results: Path, capsys, array: str) -> None:
    folder = results / "runs" / "r" / "measures" / "entropy.zarr" / array
    metadata = folder / "zarr.json"
    whole = metadata.read_text()
    metadata.write_text(whole.replace('"zarr_format": 3', '"zarr_format": 4'))
    assert f"entropy.zarr: {array}/zarr.json: it says otherwise" in verify(capsys, results)[1]
    metadata.unlink()
    assert f"entropy.zarr: {array}/zarr.json: it is missing" in verify(capsys, results)[1]
    metadata.write_text(whole)
    assert verify(capsys, results)[0] == 0
    shutil.rmtree(folder)
    status, output = verify(capsys, results)
    assert status == 1
    assert f"entropy.zarr: {array}/zarr.json: it is missing" in output
    assert "the chunk is missing" in output


def test_a_store_that_lost_its_attributes_is_not_passed_over(results: Path, capsys) -> None:
    [store] = results.rglob("entropy.zarr")
    root = store / "zarr.json"
    root.write_text(json.dumps({**json.loads(root.read_text()), "attributes": {}}))
    for path in (results, store):
        status, output = verify(capsys, path)
        assert status == 1
        assert "entropy.zarr: expected a weights or counts or measure store, but it is a foreign one" in output


def test_nothing_to_verify_is_an_error(tmp_path: Path, capsys) -> None:
    assert verify(capsys, tmp_path / "nowhere") == (
        2,
        f"reluscope verify: {tmp_path}/nowhere: expected a store or a folder with stores, but there is none\n",
    )
    assert "there is none in it" in verify(capsys, tmp_path)[1]
    zarr.create_group(tmp_path / "foreign.zarr")
    assert "there is none in it" in verify(capsys, tmp_path)[1]
    assert "it is of another kind" in verify(capsys, tmp_path / "foreign.zarr")[1]
    (tmp_path / "a.partial" / "weights.zarr").mkdir(parents=True)
    status, output = verify(capsys, tmp_path / "a.partial" / "weights.zarr")
    assert (status, "rm -r" in output) == (2, False)
    assert "it is unfinished" in output


def test_reading_damage_names_store_array_and_steps(results: Path) -> None:
    run = results / "runs" / "r"
    flip(run / "weights.zarr" / "parameters" / "c" / "0" / "1")
    weights, network = open_weights(run / "weights.zarr"), nn.Linear(3, 2)
    weights.load_into(network, 126)
    with pytest.raises(
        stores.StoreError, match=r"weights\.zarr: array parameters, steps 128 to 138, is damaged \(Stor"
    ):
        weights.load_into(network, 138)
    flip(run / "counts" / "a.zarr" / "layer000" / "counts" / "c" / "2")
    counts = open_counts(run / "counts" / "a.zarr")
    assert len(counts.at(0, 0).keys) > 100
    with pytest.raises(stores.StoreError, match=r"a\.zarr: array layer000/counts, step 1, is damaged"):
        counts.at(1, 0).counts  # noqa: B018
    with pytest.raises(stores.StoreError, match=r"a\.zarr: array layer000/counts, steps 0 to 4, is damaged"):
        _ = [over_time.counts for over_time in counts.over_time(0)]
    flip(run / "measures" / "entropy.zarr" / "entropy" / "c" / "0" / "0")
    with pytest.raises(stores.StoreError, match=r"entropy\.zarr: array entropy is damaged .*reluscope verify"):
        open_series(run / "measures" / "entropy.zarr")


def test_the_advice_fits_where_the_store_lies(results: Path, tmp_path: Path, capsys) -> None:
    """Only what lies where a workflow puts it is made again by one; what does not belong to it is deleted."""
    elsewhere = tmp_path / "results" / "mine" / "entropy.zarr"
    shutil.copytree(results / "runs" / "r" / "measures" / "entropy.zarr", elsewhere)
    flip(elsewhere / "entropy" / "c" / "0" / "0")
    status, said = verify(capsys, elsewhere)
    assert status == 1
    assert "snakemake" not in said
    assert f"put a copy in its place, or delete it (rm -r {elsewhere}) and make it again" in said
    with pytest.raises(stores.StoreError, match="names all that is; put a copy in its place, or delete it and make"):
        open_series(elsewhere)
    stray = results / "runs" / "r" / "weights.zarr" / "notes.txt"
    stray.write_text("mine")
    status, said = verify(capsys, results / "runs" / "r" / "weights.zarr")
    assert status == 1
    assert "weights.zarr: notes.txt does not belong to the store\n  delete what does not belong to it\n" in said
    assert "rm -r" not in said
    stray.unlink()
    assert verify(capsys, results / "runs" / "r" / "weights.zarr")[0] == 0


def test_what_was_found_is_told_where_the_rest_cannot_be_looked_at(results: Path, capsys, monkeypatch) -> None:
    flip(results / "runs" / "r" / "counts" / "a.zarr" / "layer000" / "keys" / "c" / "0")
    read = stores.read_chunk

    def fails(array: zarr.Array, index: tuple[int, ...]) -> np.ndarray:
        if array.path == "stage":
            raise AssertionError("whatever a library may raise")
        return read(array, index)

    monkeypatch.setattr(stores, "read_chunk", fails)
    status, said = verify(capsys, results)
    assert status == 1
    assert "a.zarr: layer000/keys, step 0: Stored and computed checksum" in said
    assert "a.zarr: cannot be looked at any further (AssertionError: whatever a library may raise)" in said
    assert said.endswith("3 stores read, 2 damaged\n")  # a measure's layers have a stage too
