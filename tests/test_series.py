"""A measure's store comes back as written and opens in xarray with all its coordinates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray

from reluscope.series import MeasureSeries, open_series, write_series
from reluscope.stores import StoreError


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
