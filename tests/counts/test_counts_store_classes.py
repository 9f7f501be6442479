"""Counts per class in the store: read back where asked for, continued after a kill, checked for damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from torch import nn

from reluscope import count_patterns, stores
from reluscope.counts import CountsWriter, open_counts
from reluscope.counts import layout as layout_module
from reluscope.counts import store as store_module
from reluscope.counts import writer as writer_module
from reluscope.patterns import PatternCounts
from reluscope.verification import damages

CLASSES = ["cat", "dog", "none of these"]
ARRAYS = ["num_classes_of", "class_index", "class_counts", "class_indptr", "shuffled_joint_entropy"]


def counts_of(step: int) -> list[PatternCounts]:
    """A layer of 5 and one of 40 channels; the third class has no images."""
    images = torch.randn(30, 40, 2, 2, generator=torch.Generator().manual_seed(step)).sign()
    labels = np.random.default_rng(step).permutation(np.arange(30) % 2)
    layers = (images[:, :5], images)
    return [count_patterns(nn.ReLU(), layer, labels=labels, shuffled_labels=True)[0] for layer in layers]


def writer(folder: Path, steps: list[int]) -> CountsWriter:
    source = folder / "weights"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "zarr.json").exists():
        (source / "zarr.json").touch()
    name, attributes = f"{steps[0]:08d}", {"labels": "shuffled", "class_names": CLASSES}
    partial, final = folder / f"{name}.partial", folder / f"{name}.zarr"
    return CountsWriter(partial, final, attributes, source)


def write(folder: Path, steps: list[int]) -> Path:
    store = writer(folder, steps)
    for step in steps:
        store.append(step, step / 12, counts_of(step))
    store.finish()
    return folder / f"{steps[0]:08d}.zarr"


def assert_same(one: PatternCounts, other: PatternCounts) -> None:
    assert one.classes is not None
    assert other.classes is not None
    assert one.classes.num_classes == 3
    assert one.shuffled_joint_entropy == other.shuffled_joint_entropy
    np.testing.assert_array_equal(one.counts, other.counts)
    for name in ("num_classes_of", "index", "counts"):
        np.testing.assert_array_equal(getattr(one.classes, name), getattr(other.classes, name))
    assert one.classes.index.dtype == one.classes.num_classes_of.dtype == other.classes.index.dtype == np.uint8


@pytest.mark.parametrize("read_at_a_time", [1, 100, 1 << 23])
def test_they_come_back_where_asked_for(tmp_path: Path, monkeypatch, read_at_a_time: int) -> None:
    monkeypatch.setattr(store_module, "READ_PATTERNS", read_at_a_time)
    store = open_counts(write(tmp_path, [0, 1, 5]), write(tmp_path, [100, 110]))
    assert store.class_names == CLASSES
    for layer in range(2):
        some = store.over_time(layer, store.steps != 1, classes=True)
        for step, counts in zip([0, 5, 100, 110], some, strict=True):
            assert_same(counts, counts_of(step)[layer])
        assert_same(store.at(-1, layer, classes=True), counts_of(110)[layer])
        assert store.at(-1, layer).classes is None


def test_stores_that_keep_classes_in_bytes_open(tmp_path: Path, monkeypatch) -> None:
    """As they were written before: by zstd."""

    def create(group, name, dtype, key_dtype):
        dimensions = ("pair",) if name.startswith("class_") else ("pattern",)
        return stores.create_array(group, name, dtype=dtype, shape=(0,), dimensions=dimensions, chunks=(1 << 18,))

    monkeypatch.setattr(layout_module, "create_pattern_array", create)
    path = write(tmp_path, [0, 3])
    assert xarray.open_zarr(path, group="layer000").class_index.dtype == np.uint8
    for layer in range(2):
        assert_same(open_counts(path).at(1, layer, classes=True), counts_of(3)[layer])


def test_what_is_read_cannot_be_changed(tmp_path: Path) -> None:
    store = open_counts(write(tmp_path, [0, 1]))
    for counts in [*store.over_time(1, classes=True), store.at(1, layer=1, classes=True)]:
        assert counts.classes is not None
        for array in (counts.classes.num_classes_of, counts.classes.index, counts.classes.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_who_does_not_ask_does_not_read_them(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 1])
    for name in ARRAYS:
        for chunk in (path / "layer000" / name / "c").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(b"damaged")
    store = open_counts(path)
    assert [len(counts.keys) for counts in store.over_time(0)] == [len(counts_of(step)[0].keys) for step in (0, 1)]
    with pytest.raises(stores.StoreError, match=r"is damaged"):
        list(store.over_time(0, classes=True))


def test_xarray_names_what_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 3])
    assert xarray.open_zarr(path).attrs["class_names"] == CLASSES
    layer = xarray.open_zarr(path, group="layer001")
    assert layer.num_classes_of.dims == ("pattern",)
    assert layer.class_index.dims == layer.class_counts.dims == ("pair",)
    assert layer.shuffled_joint_entropy.dims == ("step",)
    assert int(layer.num_classes_of.sum()) == layer.sizes["pair"] == int(layer.class_indptr[-1])
    assert int(layer.class_counts.sum()) == int(layer.counts.sum())


def test_a_killed_job_continues_to_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch) -> None:
    steps = [0, 1, 2, 5]
    monkeypatch.setattr(layout_module, "CHUNK_PATTERNS", 50)
    whole = write(tmp_path / "whole", steps)
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = writer(tmp_path / "killed", steps)
    for step in steps[:2]:
        store.append(step, step / 12, counts_of(step))
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", 60.0)
    store.append(2, 2 / 12, counts_of(2))  # counted, but not saved before the kill
    del store
    store = writer(tmp_path / "killed", steps)
    assert store.steps == [0, 1]
    for step in steps[2:]:
        store.append(step, step / 12, counts_of(step))
    store.finish()
    assert bytes_below(tmp_path / "killed" / "00000000.zarr") == bytes_below(whole)


@pytest.mark.parametrize("array", ["num_classes_of", "class_index", "class_counts"])
def test_work_that_lost_a_chunk_is_counted_anew(tmp_path: Path, monkeypatch, array: str) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    store = writer(tmp_path, [1, 2])
    store.append(1, 1 / 12, counts_of(1))
    store.close()
    store = writer(tmp_path, [1, 2])
    assert store.steps == [1]
    store.close()
    (tmp_path / "00000001.partial" / "counts.zarr" / "layer001" / array / "c" / "0").unlink()
    assert writer(tmp_path, [1, 2]).steps == []


def test_damage_is_named_with_its_steps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(layout_module, "CHUNK_PATTERNS", 50)
    path = write(tmp_path, [0, 3])
    assert list(damages(path)) == []
    counts = path / "layer000" / "class_counts" / "c"
    for chunk in ("0", max(counts.iterdir(), key=lambda file: int(file.name)).name):
        data = bytearray((counts / chunk).read_bytes())
        data[len(data) // 2] ^= 1
        (counts / chunk).write_bytes(data)
    lines = [line.partition(":")[0] for line in damages(path)]
    assert lines == ["layer000/class_counts, step 0", "layer000/class_counts, step 3"]


def test_pairs_of_patterns_and_classes_are_read_a_bounded_number_at_a_time(tmp_path: Path, monkeypatch) -> None:
    """Where a pattern occurs in many classes they are most of what is read."""
    steps = [0, 1, 2, 3]
    store = open_counts(write(tmp_path, steps))
    monkeypatch.setattr(store_module, "READ_PATTERNS", sum(len(counts_of(step)[0].keys) for step in steps))
    read_at_once, read = [], stores.read

    def noting(array, *arguments, **named):
        values = read(array, *arguments, **named)
        read_at_once.extend([len(values)] if array.basename == "class_index" else [])
        return values

    monkeypatch.setattr(stores, "read", noting)
    for step, counts in zip(steps, store.over_time(0, classes=True), strict=True):
        assert_same(counts, counts_of(step)[0])
    assert len(read_at_once) > 1
    assert max(read_at_once) < store_module.READ_PATTERNS
