"""The counts store gives back what was counted, shard by shard, and tells damage."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from made_up import LAYERS, assert_same, counts_of, sampled_counts_of, write, writer

from reluscope import stores
from reluscope.counts import layout as layout_module
from reluscope.counts import open_counts
from reluscope.counts import store as store_module
from reluscope.patterns import Counts, PatternCounts, SampledCounts


def test_what_a_bit_means_and_the_channel_axis_are_kept_with_each_layer(tmp_path: Path, forget_manifest) -> None:
    """Stores made before they were have neither."""

    def described(step: int) -> list[PatternCounts]:
        return [replace(counts, channel_axis=2, bit="input of Hardtanh > -1") for counts in counts_of(step)]

    path = write(tmp_path, [0, 3], described)
    for layer in range(len(LAYERS)):
        for counts in (open_counts(path).at(1, layer), next(open_counts(path).over_time(layer))):
            assert (counts.channel_axis, counts.bit) == (2, "input of Hardtanh > -1")
    forget_manifest(path)
    metadata = json.loads((path / "zarr.json").read_text())
    for layer in range(len(LAYERS)):
        attributes = metadata["consolidated_metadata"]["metadata"][f"layer{layer:03d}"]["attributes"]
        del attributes["channel_axis"], attributes["bit"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    (before,) = {(counts.channel_axis, counts.bit) for counts in (open_counts(path).at(0, layer) for layer in range(4))}
    assert before == (1, "input > 0")


@pytest.mark.parametrize("made", [counts_of, sampled_counts_of])
def test_nan_is_kept_by_step_and_layer_and_unknown_in_stores_made_before(tmp_path: Path, made, forget_manifest) -> None:
    """One shard of the run is as earlier versions wrote it."""
    about = {"sample": "1/16"} if made is sampled_counts_of else {}
    early, late = write(tmp_path, [0, 3], made, **about), write(tmp_path, [100, 110], made, **about)
    assert xarray.open_zarr(early).num_nan.dims == ("step", "layer")
    forget_manifest(early)
    shutil.rmtree(early / "num_nan")
    metadata = json.loads((early / "zarr.json").read_text())
    del metadata["consolidated_metadata"]["metadata"]["num_nan"]
    (early / "zarr.json").write_text(json.dumps(metadata))
    store = open_counts(early, late)
    known = [[counts.num_nan for counts in made(step)] for step in (100, 110)]
    assert known == [[0, 2, 4, 6], [0, 5, 10, 15]]
    np.testing.assert_array_equal(store.num_nan, [[-1] * 4, [-1] * 4, *known])
    for layer in range(4):
        expected = [None, None, *(row[layer] for row in known)]
        assert [counts.num_nan for counts in store.over_time(layer)] == expected
        assert [store.at(index, layer).num_nan for index in range(4)] == expected
        assert [counts.sample.num_nan for counts in store.over_time(layer)] == expected


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
    for name in ("one_in", "num_positions", "num_distinct", "largest_count", "entropy", "num_nan"):
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

    monkeypatch.setattr(layout_module, "create_pattern_array", create)
    store = open_counts(write(tmp_path, [0, 3]))
    for layer in range(4):
        assert_same(store.at(1, layer).sample, counts_of(3)[layer])


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


def test_shards_of_different_images_do_not_mix(tmp_path: Path) -> None:
    shards = [
        write(tmp_path, [0]),  # of an earlier version, which gave no digest
        write(tmp_path, [10], data_digest="1"),
        write(tmp_path, [20], data_digest="1"),
        write(tmp_path, [30], data_digest="2"),
    ]
    assert open_counts(*shards[:3]).steps.tolist() == [0, 10, 20]
    assert open_counts(shards[0], shards[3]).steps.tolist() == [0, 30]
    with pytest.raises(
        stores.StoreError, match=r"00000030\.zarr was made of other training images, .* than .*00000010"
    ):
        open_counts(*shards)


def test_counts_of_other_images_are_begun_anew(tmp_path: Path) -> None:
    for begun, now, kept in ((None, "1", 1), ("1", "1", 1), ("1", "2", 0)):
        folder = tmp_path / f"{begun}-{now}"
        one = writer(folder, [0, 1], **({} if begun is None else {"data_digest": begun}))
        one.append(0, 0.0, counts_of(0))
        one.save()
        one.close()
        again = writer(folder, [0, 1], data_digest=now)
        assert len(again.steps) == kept
        again.close()


def test_an_unfinished_shard_does_not_open(tmp_path: Path) -> None:
    store = writer(tmp_path, [0, 1])
    store.append(0, 0.0, counts_of(0))
    store.save()
    with pytest.raises(stores.StoreError, match="there is none"):
        open_counts(tmp_path / "00000000.zarr")
    with pytest.raises(stores.StoreError, match="unfinished"):
        open_counts(tmp_path / "00000000.partial" / "counts.zarr")


def test_stores_with_steps_in_common_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", [0, 5, 10]), write(tmp_path / "b", [10, 15])
    for paths in ((one, other), (one, one)):
        with pytest.raises(stores.StoreError, match=r"begins at step (10|0), which is not after all of .*0\.zarr"):
            open_counts(*paths)


def exchange(one: Path, other: Path) -> None:
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("layer000/keys/c/0", "layer001/keys/c/0", "keys are not ascending"),  # of another width
        ("layer002/keys/c/0", "layer003/keys/c/0", "keys are not ascending"),
        ("layer001/keys/c/0", "layer001/counts/c/0", "keys are not ascending|is damaged"),
        ("layer002/counts/c/0", "layer003/counts/c/0", "counts do not add up|counts of 0"),
        ("layer001/counts/c/0", "layer001/counts/c/1", "counts do not add up|counts of 0"),
        ("step/c/0", "layer/c/0", "array step is damaged"),
        ("layer001/indptr/c/0", "layer002/indptr/c/0", "its ends do not fit steps and keys"),
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_chunks_at_one_anothers_place_are_not_read(
    tmp_path: Path, monkeypatch, forget_manifest, one: str, other: str, why: str, is_old: bool
) -> None:
    """By their marks, or in a store made before it kept them, by what they hold, as far as that can tell."""
    monkeypatch.setattr(layout_module, "CHUNK_PATTERNS", 4000)
    path = write(tmp_path, [0, 3, 7])
    exchange(path / one, path / other)
    if is_old:
        forget_manifest(path)

    def read_all() -> None:
        store = open_counts(path)
        for layer in range(4):
            _ = [(counts.keys, counts.counts) for counts in store.over_time(layer)]

    with pytest.raises(stores.StoreError, match=why if is_old else "is not the file that was written there"):
        read_all()
    exchange(path / one, path / other)
    read_all()
