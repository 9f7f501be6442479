"""The counts store gives back what was counted, shard by shard, and continues where a killed job stopped."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from reluscope import stores
from reluscope.counts import CountsWriter, open_counts
from reluscope.counts import store as store_module
from reluscope.counts import writer as writer_module
from reluscope.patterns import Counts, PatternCounts, SampledCounts, key_dtype

LAYERS = [("a", 3, 4, 4), ("b", 32, 4, 4), ("c", 64, 2, 2), ("d", 100, 1, 1)]
IMAGES = 300


def counts_of(step: int) -> list[PatternCounts]:
    """Some counts of every layer: keys up to the very last, as many positions as there are."""
    random, made = np.random.default_rng(step), []
    for name, channels, height, width in LAYERS:
        top = 2 ** min(channels, 64) - 1
        drawn = random.integers(0, top, IMAGES * height * width, dtype=np.uint64, endpoint=True) >> np.uint64(
            random.integers(0, min(channels, 64))
        )
        drawn[0] = top
        keys, counts = np.unique(drawn, return_counts=True)
        made.append(PatternCounts(name, keys.astype(key_dtype(channels)), counts, channels, height, width))
    return made


def writer(folder: Path, steps: list[int], **attributes) -> CountsWriter:
    name = f"{steps[0]:08d}"
    final, partial, source = folder / f"{name}.zarr", folder / f"{name}.partial", folder / "weights"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "zarr.json").exists():
        (source / "zarr.json").touch()
    return CountsWriter(partial, final, {"run": "r", "steps": steps, **attributes}, source)


def sampled_counts_of(step: int) -> list[Counts]:
    return [counts.sampled(16) for counts in counts_of(step)]


def write(folder: Path, steps: list[int], counts_of=counts_of, **attributes) -> Path:
    store = writer(folder, steps, **attributes)
    for step in steps:
        store.append(step, step / 12, counts_of(step))
    store.finish()
    return folder / f"{steps[0]:08d}.zarr"


def test_what_a_bit_means_and_the_channel_axis_are_kept_with_each_layer(tmp_path: Path) -> None:
    """Stores made before they were have neither."""

    def described(step: int) -> list[PatternCounts]:
        return [replace(counts, channel_axis=2, bit="input of Hardtanh > -1") for counts in counts_of(step)]

    path = write(tmp_path, [0, 3], described)
    for layer in range(len(LAYERS)):
        for counts in (open_counts(path).at(1, layer), next(open_counts(path).over_time(layer))):
            assert (counts.channel_axis, counts.bit) == (2, "input of Hardtanh > -1")
    metadata = json.loads((path / "zarr.json").read_text())
    for layer in range(len(LAYERS)):
        attributes = metadata["consolidated_metadata"]["metadata"][f"layer{layer:03d}"]["attributes"]
        del attributes["channel_axis"], attributes["bit"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    (before,) = {(counts.channel_axis, counts.bit) for counts in (open_counts(path).at(0, layer) for layer in range(4))}
    assert before == (1, "input > 0")


def assert_same(one: PatternCounts, other: PatternCounts) -> None:
    assert (one.layer_name, one.num_channels, one.height, one.width) == (
        other.layer_name,
        other.num_channels,
        other.height,
        other.width,
    )
    assert one.keys.dtype == other.keys.dtype
    assert one.counts.dtype == np.int64
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.counts, other.counts)


@pytest.mark.parametrize("read_at_a_time", [1, 5_000, 1 << 23])
def test_shards_read_as_one_run(tmp_path: Path, monkeypatch, read_at_a_time: int) -> None:
    monkeypatch.setattr(store_module, "READ_PATTERNS", read_at_a_time)
    late, early = write(tmp_path, [100, 110]), write(tmp_path, [0, 1, 5])
    store = open_counts(late, early)
    assert store.steps.tolist() == [0, 1, 5, 100, 110]
    assert store.layer_names == ["a", "b", "c", "d"]
    assert store.stage.tolist() == [0, 0, 1, 2]
    assert store.num_positions.tolist() == [4800, 4800, 1200, 300]
    for layer in range(4):
        over_time = list(store.over_time(layer))
        for position, step in enumerate(store.steps.tolist()):
            assert_same(store.at(position, layer), counts_of(step)[layer])
            assert_same(over_time[position], counts_of(step)[layer])
    assert_same(store.at(-1, 1), counts_of(110)[1])


def assert_same_sample(one: Counts, other: Counts) -> None:
    assert isinstance(one, SampledCounts)
    assert_same(one.sample, other.sample)
    for name in ("one_in", "num_positions", "num_distinct", "largest_count", "entropy"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("read_at_a_time", [1, 1 << 23])
def test_samples_come_back_with_the_exact_numbers_of_all(tmp_path: Path, monkeypatch, read_at_a_time: int) -> None:
    monkeypatch.setattr(store_module, "READ_PATTERNS", read_at_a_time)
    paths = [write(tmp_path, steps, sampled_counts_of, sample="1/16") for steps in ([0, 1, 5], [100, 110])]
    store = open_counts(*paths)
    assert store.one_in == 16
    for layer in range(4):
        over_time = list(store.over_time(layer, store.steps != 1))
        for position, step in enumerate([0, 5, 100, 110]):
            assert_same_sample(over_time[position], sampled_counts_of(step)[layer])
        assert_same_sample(store.at(1, layer), sampled_counts_of(1)[layer])
        assert_same_sample(store.at(-1, layer), sampled_counts_of(110)[layer])


def test_keys_and_counts_are_read_when_asked_for(tmp_path: Path, monkeypatch) -> None:
    """Once, of all steps that are read at a time; many measures do without the ones or the others."""
    store, reads, read = open_counts(write(tmp_path, [0, 1, 5])), [], stores.read
    monkeypatch.setattr(stores, "read", lambda array, *a, **k: reads.append(array.basename) or read(array, *a, **k))
    rows = [*store.over_time(0), store.at(0, layer=0)]
    sizes = [row.num_distinct for row in rows]
    assert {"keys", "counts"}.isdisjoint(reads)
    assert [len(row.keys) for row in rows] == sizes == [len(row.keys) for row in rows]
    assert (reads.count("keys"), reads.count("counts")) == (2, 0)
    for row in rows:
        assert row.counts.dtype == np.int64
        assert row.narrow_counts.tolist() == row.counts.tolist()
        assert (row.num_positions, row.largest_count) == (row.counts.sum(), row.counts.max())
        assert repr(row)
    assert (reads.count("keys"), reads.count("counts")) == (2, 2)
    replaced = replace(store.at(0, layer=0), layer_name="other")
    np.testing.assert_array_equal(replaced.keys, rows[0].keys)


def test_what_is_read_cannot_be_changed(tmp_path: Path) -> None:
    """One measure must not spoil what another one is given."""
    store = open_counts(write(tmp_path, [0, 1]))
    for counts in [*store.over_time(1), store.at(1, layer=1)]:
        for array in (counts.keys, counts.narrow_counts, counts.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_what_is_read_travels_to_other_processes(tmp_path: Path) -> None:
    store = open_counts(write(tmp_path, [0, 1]))
    for step, counts in zip([0, 1, 1], [*store.over_time(1), store.at(1, layer=1)], strict=True):
        assert_same(pickle.loads(pickle.dumps(counts)), counts_of(step)[1])


def test_damage_is_told_whenever_keys_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, [0])
    (path / "layer000/keys/c/0").write_bytes(b"damaged")
    counts = open_counts(path).at(0, layer=0)
    for _ in range(2):
        with pytest.raises(stores.StoreError, match=r"layer000/keys, step 0, is damaged"):
            counts.keys  # noqa: B018


def test_a_store_of_samples_says_so_and_counts_all(tmp_path: Path) -> None:
    full, sampled = write(tmp_path / "a", [0, 3]), write(tmp_path / "b", [0, 3], sampled_counts_of, sample="1/16")
    whole, part = xarray.open_zarr(full), xarray.open_zarr(sampled)
    assert part.attrs["sample"] == "1/16"
    for name in ("distinct_patterns", "expected_collisions", "num_positions"):
        np.testing.assert_array_equal(part[name], whole[name])
    for index in range(4):
        layer = xarray.open_zarr(sampled, group=f"layer{index:03d}")
        assert layer.sizes["pattern"] == sum(len(sampled_counts_of(step)[index].sample.keys) for step in (0, 3))
        assert layer.entropy.values.tolist() == [counts_of(step)[index].entropy for step in (0, 3)]
        assert layer.largest_count.values.tolist() == [counts_of(step)[index].largest_count for step in (0, 3)]
        assert layer.num_distinct.dims == ("step",)


def test_xarray_opens_the_whole_and_each_layer(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 3])
    dataset = xarray.open_zarr(path)
    assert dataset.layer_name.values.tolist() == ["a", "b", "c", "d"]
    assert dataset.distinct_patterns.dims == ("step", "layer")
    assert dataset.distinct_patterns.values[1].tolist() == [len(c.keys) for c in counts_of(3)]
    assert dataset.expected_collisions.dims == ("step", "layer")
    assert dataset.expected_collisions.values[1].tolist() == [c.expected_collisions for c in counts_of(3)]
    assert dataset.num_channels.values.tolist() == [3, 32, 64, 100]
    assert set(dataset.distinct_patterns.coords) >= {"step", "epoch", "layer", "layer_name", "stage", "num_channels"}
    layer = xarray.open_zarr(path, group="layer002")
    assert layer["keys"].dtype == np.uint64
    assert layer.counts.dims == ("pattern",)
    assert int(layer.indptr[-1]) == layer.sizes["pattern"]
    assert layer.attrs["key_kind"] == "bits"
    assert xarray.open_zarr(path, group="layer003").attrs["key_kind"] == "xor64"


@pytest.mark.parametrize("layer", range(4))
def test_each_width_reads_back_bit_for_bit_in_xarray_and_notices_damage(tmp_path: Path, layer: int) -> None:
    """Its keys have a codec of their own, and a checksum all the same."""
    path = write(tmp_path, [0, 3])
    group = xarray.open_zarr(path, group=f"layer{layer:03d}")
    for name in ("keys", "counts"):
        expected = np.concatenate([getattr(counts_of(step)[layer], name) for step in (0, 3)])
        np.testing.assert_array_equal(group[name].values, expected)
        chunk = path / f"layer{layer:03d}" / name / "c" / "0"
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
        with pytest.raises(stores.StoreError, match=rf"/{name}, step 0, is damaged \(Stored and computed checksum do"):
            getattr(open_counts(path).at(0, layer), name)
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)


def test_stores_of_another_codec_open(tmp_path: Path, monkeypatch) -> None:
    """As all keys were written before: by PCodec."""

    def create(group, name, dtype, key_dtype):
        settings = {"shape": (0,), "dimensions": ("pattern",), "chunks": (1 << 18,), "pcodec": {"level": 8}}
        return stores.create_array(group, name, dtype=dtype, **settings)

    monkeypatch.setattr(writer_module, "create_pattern_array", create)
    store = open_counts(write(tmp_path, [0, 3]))
    for layer in range(4):
        assert_same(store.at(1, layer).sample, counts_of(3)[layer])


@pytest.mark.parametrize("counts_of", [counts_of, sampled_counts_of])
def test_a_killed_job_continues_to_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch, counts_of) -> None:
    steps = [0, 1, 2, 5, 9]
    monkeypatch.setattr(writer_module, "CHUNK_PATTERNS", 1000)
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


@pytest.mark.parametrize("array", ["layer001/keys", "layer000/counts", "layer002/indptr", "step"])
def test_a_lost_chunk_is_noticed(tmp_path: Path, array: str) -> None:
    path = write(tmp_path, [0, 1])
    next(p for p in (path / array / "c").rglob("*") if p.is_file()).unlink()
    with pytest.raises(stores.StoreError, match=rf"is damaged: 1 of \d+ chunks of {array} are missing"):
        open_counts(path)


def test_shards_of_different_runs_do_not_mix(tmp_path: Path) -> None:
    one, other = write(tmp_path, [0]), write(tmp_path, [10], batch_size=64)
    with pytest.raises(stores.StoreError, match=r"does not belong together with .*: they differ in batch_size"):
        open_counts(one, other)


def test_an_unfinished_shard_does_not_open(tmp_path: Path) -> None:
    store = writer(tmp_path, [0, 1])
    store.append(0, 0.0, counts_of(0))
    store.save()
    with pytest.raises(stores.StoreError, match="there is none"):
        open_counts(tmp_path / "00000000.zarr")
    with pytest.raises(stores.StoreError, match="unfinished"):
        open_counts(tmp_path / "00000000.partial" / "counts.zarr")


def recorder(folder: Path, **attributes) -> CountsWriter:
    """A writer of what cannot be counted again."""
    return CountsWriter(folder / "a.partial", folder / "a.zarr", {"batch_size": 128, **attributes})


@pytest.mark.parametrize("counts_of", [counts_of, sampled_counts_of])
@pytest.mark.parametrize("saved", [True, False])
def test_what_is_forgotten_was_never_there(tmp_path: Path, bytes_below, monkeypatch, counts_of, saved: bool) -> None:
    monkeypatch.setattr(writer_module, "CHUNK_PATTERNS", 1000)
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


def test_stores_with_steps_in_common_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", [0, 5, 10]), write(tmp_path / "b", [10, 15])
    for paths in ((one, other), (one, one)):
        with pytest.raises(stores.StoreError, match=r"begins at step (10|0), which is not after all of .*0\.zarr"):
            open_counts(*paths)
