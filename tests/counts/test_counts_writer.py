"""A counts store continues where a killed job stopped, and is begun anew where it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import xarray
from made_up import assert_same, counts_of, sampled_counts_of, write, writer

from reluscope import stores
from reluscope.counts import CountsWriter, open_counts
from reluscope.counts import layout as layout_module
from reluscope.counts import writer as writer_module


@pytest.mark.parametrize("counts_of", [counts_of, sampled_counts_of])
def test_a_killed_job_continues_to_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch, counts_of) -> None:
    steps = [0, 1, 2, 5, 9]
    monkeypatch.setattr(layout_module, "CHUNK_PATTERNS", 1000)
    whole = write(tmp_path / "whole", steps, counts_of)
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = writer(tmp_path / "killed", steps)
    for step in steps[:3]:
        store.append(step, step / 12, counts_of(step))
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
    store.append(5, 5 / 12, counts_of(5))  # counted, but not saved before the kill
    del store

    store = writer(tmp_path / "killed", steps)
    assert store.steps == steps[:3]
    for step in steps[3:]:
        store.append(step, step / 12, counts_of(step))
    store.finish()
    assert bytes_below(tmp_path / "killed" / "00000000.zarr") == bytes_below(whole)
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["00000000.zarr", "weights"]


def test_work_of_an_earlier_version_goes_on_and_knows_no_nan_of_its_steps(tmp_path: Path) -> None:
    store = writer(tmp_path, [0, 1, 5])
    store.append(0, 0.0, counts_of(0))
    store.save()
    store.close()
    state = tmp_path / "00000000.partial/state.json"
    before = json.loads(state.read_text())
    for layer in before["layers"]:
        del layer["num_nan"]
    state.write_text(json.dumps(before))
    (tmp_path / "00000000.partial/counts.zarr/journal.jsonl").unlink()
    store = writer(tmp_path, [0, 1, 5])
    assert store.steps == [0]
    for step in (1, 5):
        store.append(step, step / 12, counts_of(step))
    store.finish()
    assert open_counts(tmp_path / "00000000.zarr").num_nan.tolist() == [[-1] * 4, [0, 1, 2, 3], [0, 5, 10, 15]]


@pytest.mark.parametrize("array", ["keys", "counts"])
def test_work_that_lost_a_chunk_is_counted_anew(tmp_path: Path, monkeypatch, array: str) -> None:
    """Zarr would read it as zeros."""
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = writer(tmp_path, [1, 2])
    store.append(1, 1 / 12, sampled_counts_of(1))
    store.close()
    store = writer(tmp_path, [1, 2])
    assert store.steps == [1]
    store.close()
    (tmp_path / "00000001.partial" / "counts.zarr" / "layer001" / array / "c" / "0").unlink()
    store = writer(tmp_path, [1, 2])
    assert store.steps == []
    for step in (1, 2):
        store.append(step, step / 12, counts_of(step))
    store.finish()
    assert_same(open_counts(tmp_path / "00000001.zarr").at(0, 1).sample, counts_of(1)[1])


def test_work_of_other_settings_is_counted_anew(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    writer(tmp_path, [0, 1]).append(0, 0.0, counts_of(0))
    assert writer(tmp_path, [0, 1], batch_size=64).steps == []


def test_work_over_weights_that_were_made_again_is_counted_anew(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    writer(tmp_path, [0, 1]).append(0, 0.0, counts_of(0))
    assert writer(tmp_path, [0, 1]).steps == [0]
    (tmp_path / "weights" / "zarr.json").unlink()
    (tmp_path / "weights" / "zarr.json").touch()
    assert writer(tmp_path, [0, 1]).steps == []


def test_a_state_that_outlived_its_store_is_not_resumed(tmp_path: Path, monkeypatch) -> None:
    """Killed after the rename and before the clean-up; or started anew with other settings, killed, and set back."""
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    writer(tmp_path, [0, 1]).append(0, 0.0, counts_of(0))
    shutil.rmtree(tmp_path / "00000000.partial" / "counts.zarr")
    assert writer(tmp_path, [0, 1]).steps == []
    writer(tmp_path, [0, 1]).append(0, 0.0, counts_of(0))
    assert writer(tmp_path, [0, 1], batch_size=64).steps == []
    assert writer(tmp_path, [0, 1]).steps == []


def test_a_second_process_on_the_same_shard_stops(tmp_path: Path) -> None:
    first = writer(tmp_path, [0, 1])
    with pytest.raises(stores.StoreError, match="another process is counting here"):
        writer(tmp_path, [0, 1])
    del first


def recorder(folder: Path, **attributes) -> CountsWriter:
    """A writer of what cannot be counted again."""
    return CountsWriter(folder / "a.partial", folder / "a.zarr", {"batch_size": 128, **attributes})


@pytest.mark.parametrize("counts_of", [counts_of, sampled_counts_of])
@pytest.mark.parametrize("saved", [True, False])
def test_what_is_forgotten_was_never_there(tmp_path: Path, bytes_below, monkeypatch, counts_of, saved: bool) -> None:
    monkeypatch.setattr(layout_module, "CHUNK_PATTERNS", 1000)
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0 if saved else 60.0)
    for name, wrong in (("whole", []), ("rewound", [3, 4, 7])):
        store = recorder(tmp_path / name)
        for step in (0, 2):
            store.append(step, step / 12, counts_of(step))
        for step in wrong:
            store.append(step, step / 12, counts_of(step + 50))
        store.rewind(3)
        assert store.steps == [0, 2]
        store.append(3, 0.25, counts_of(3))
        store.finish()
    assert bytes_below(tmp_path / "rewound") == bytes_below(tmp_path / "whole")


def test_a_store_that_ends_with_a_rewind_has_no_more_patterns_than_its_steps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = recorder(tmp_path)
    for step in (0, 2, 3):
        store.append(step, step / 12, counts_of(step))
    store.rewind(3)
    store.finish()
    layer = xarray.open_zarr(tmp_path / "a.zarr", group="layer001")
    assert layer.sizes["pattern"] == int(layer.indptr[-1]) == sum(len(counts_of(step)[1].keys) for step in (0, 2))


def test_what_cannot_be_counted_again_is_never_begun_anew(tmp_path: Path) -> None:
    store = recorder(tmp_path)
    store.append(0, 0.0, counts_of(0))
    store.save()
    store.close()
    with pytest.raises(
        stores.StoreError, match=r"a\.partial: cannot be continued: .*batch_size: 128, but now it is 64"
    ):
        recorder(tmp_path, batch_size=64)
    with pytest.raises(stores.StoreError, match=r"cannot be continued: it was begun with sample: None"):
        recorder(tmp_path, sample="1/16")
    other_machine = recorder(tmp_path, threads=7)
    assert other_machine.steps == [0]
    other_machine.close()
    (tmp_path / "a.partial" / "counts.zarr" / "layer001" / "keys" / "c" / "0").unlink()
    with pytest.raises(stores.StoreError, match=r"cannot be continued: .*keys/c/0 is missing"):
        recorder(tmp_path)


def test_steps_ascend_and_keep_their_layers(tmp_path: Path) -> None:
    store = recorder(tmp_path)
    with pytest.raises(RuntimeError, match="expected at least one counted step"):
        store.finish()
    store.append(4, 0.0, counts_of(4))
    with pytest.raises(ValueError, match="step 4: expected one after the last, step 4"):
        store.append(4, 0.0, counts_of(4))
    with pytest.raises(ValueError, match=r"step 5, layer 3: expected 'd' with 100 channels, 1 x 1, 300 pos.*got none"):
        store.append(5, 0.0, counts_of(5)[:3])
    assert store.steps == [4]
