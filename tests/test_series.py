"""A measure's store comes back as written and opens in xarray with all its coordinates."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

from reluscope.series import MeasureSeries, open_series, write_series
from reluscope.stores import StoreError, lock


def series() -> MeasureSeries:
    values = np.array([[np.nan, 0.5, 1.0], [0.25, -0.0, np.pi]])
    return MeasureSeries(
        "entropy", values, np.array([0, 12]), np.array([0.0, 1.0]), ["a", "b", "c"], np.array([0, 0, 1])
    )


def test_round_trip(tmp_path: Path) -> None:
    write_series(series(), tmp_path / "entropy.zarr", {"run": "r"})
    read = open_series(tmp_path / "entropy.zarr")
    assert read.values.tobytes() == series().values.tobytes()
    assert read.layer_name == ["a", "b", "c"]
    assert (read.measure, read.step.tolist(), read.epoch.tolist(), read.stage.tolist()) == (
        "entropy",
        [0, 12],
        [0.0, 1.0],
        [0, 0, 1],
    )


def test_xarray_labels_it(tmp_path: Path) -> None:
    write_series(series(), tmp_path / "entropy.zarr", {})
    dataset = xarray.open_zarr(tmp_path / "entropy.zarr")
    assert dataset.entropy.dims == ("step", "layer")
    assert set(dataset.entropy.coords) == {"step", "epoch", "layer", "layer_name", "stage"}
    assert float(dataset.entropy.sel(step=12, layer=2)) == np.pi


def test_standard_errors_stand_beside_the_values(tmp_path: Path) -> None:
    errors = np.array([[np.nan, 0.0, 0.1], [0.2, np.nan, 0.3]])
    write_series(dataclasses.replace(series(), standard_error=errors), tmp_path / "entropy.zarr", {"sample": "1/16"})
    read = open_series(tmp_path / "entropy.zarr").standard_error
    assert read is not None
    assert read.tobytes() == errors.tobytes()
    dataset = xarray.open_zarr(tmp_path / "entropy.zarr")
    assert dataset.standard_error.dims == ("step", "layer")
    assert dataset.attrs["sample"] == "1/16"
    write_series(series(), tmp_path / "entropy.zarr", {})
    assert open_series(tmp_path / "entropy.zarr").standard_error is None


def test_writing_again_replaces_it(tmp_path: Path, bytes_below) -> None:
    write_series(series(), tmp_path / "e.zarr", {})
    before = bytes_below(tmp_path)
    write_series(series(), tmp_path / "e.zarr", {})
    assert bytes_below(tmp_path) == before


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no\.zarr: expected a measure store, but there is none"):
        open_series(tmp_path / "no.zarr")


def test_what_a_kill_left_is_replaced(tmp_path: Path) -> None:
    """Also what earlier versions left, under the number of their process, unless it may still be written to."""
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, {here!r}); from test_series import *\n"
        "from reluscope import stores\n"
        "stores.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_series(series(), Path({path!r}), {{}})"
    ).format(here=str(Path(__file__).parent), path=str(tmp_path / "entropy.zarr"))
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", script], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["entropy.partial"]
    for name, age in (("entropy.partial.123", 7200), ("entropy.partial.124", 10), ("entropy.partial.old", 7200)):
        (tmp_path / name / "entropy").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_series(series(), tmp_path / "entropy.zarr", {})
    assert open_series(tmp_path / "entropy.zarr").layer_name == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "entropy.partial.124",
        "entropy.partial.old",
        "entropy.zarr",
    ]


def test_two_that_write_a_measure_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluscope.series.WAIT_SECONDS", 0.0)
    held = lock(tmp_path / "entropy.partial", "writing this measure")
    with pytest.raises(StoreError, match=r"entropy\.partial: another process is writing this measure"):
        write_series(series(), tmp_path / "entropy.zarr", {})
    held.release()
    write_series(series(), tmp_path / "entropy.zarr", {})


def test_a_store_of_another_run_or_measure_is_told_from_the_one_that_is_read_for(tmp_path: Path) -> None:
    """Whole stores that were exchanged: each is sound, and not the one that belongs there."""
    write_series(series(), tmp_path / "entropy.zarr", {"run": "r"})
    assert open_series(tmp_path / "entropy.zarr", run="r", measure="entropy").measure == "entropy"
    with pytest.raises(StoreError, match=r"entropy\.zarr: is of run 'r', where that of 's' belongs"):
        open_series(tmp_path / "entropy.zarr", run="s")
    with pytest.raises(StoreError, match=r"entropy\.zarr: is of measure 'entropy', where that of 'occupancy' belongs"):
        open_series(tmp_path / "entropy.zarr", run="r", measure="occupancy")
