"""The measures store: one measure of one run over time and layers, in Zarr."""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluscope import paths, stores

WAIT_SECONDS = 60.0
"""For another process that writes the same measure, which takes seconds."""


@dataclass(frozen=True, eq=False)
class MeasureSeries:
    """One measure of one run.

    Attributes:
        measure: the measure's name.
        values: float64, shape [step, layer], or [step, layer, class]; NaN where the measure is undefined.
        step: optimizer updates done, int64, shape [step], ascending.
        epoch: the same in epochs, float64, shape [step].
        layer_name: shape [layer], in forward order.
        stage: int64, shape [layer], from 0: layers that share one spatial resolution, in forward order.
        standard_error: of values from sampled counts, float64, shape [step, layer]: 0 where a value is exact, NaN where
            it is not known. None for values from all patterns, which are exact.
        class_name: shape [class], where each class has a value; else None.
    """

    measure: str
    values: NDArray[np.float64]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    layer_name: list[str]
    stage: NDArray[np.int64]
    standard_error: NDArray[np.float64] | None = None
    class_name: list[str] | None = None


def write_series(series: MeasureSeries, path: Path, attributes: Mapping[str, Any]) -> None:
    """Write a measure of a run to `path`: ``<measure>[step, layer]`` or ``[step, layer, class]``, with coordinates.

    Beside the values of sampled counts stands their ``standard_error[step, layer]``. What a writer that was killed left
    is replaced.

    Args:
        attributes: what the values were computed from, JSON types.

    Raises:
        StoreError: another process is writing it.
        WriteError: it cannot be written.
    """
    folder = Path(paths.partial(str(path)))
    _remove_older(folder)
    held = stores.lock(folder, "writing this measure", wait=WAIT_SECONDS)
    try:
        _write(series, folder / "measure.zarr", path, attributes)
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed now, as on a networked disk, may stay
    finally:
        held.release()


def _remove_older(folder: Path) -> None:
    """Remove what killed writers of earlier versions left beside `folder`, named after their processes.

    Another machine's process may write there, and writing takes seconds: what was touched within the hour stays.
    """
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.*"):
        if left.name.removeprefix(f"{folder.name}.").isdigit() and left.stat().st_mtime < time.time() - 3600:
            shutil.rmtree(left, ignore_errors=True)


def _write(series: MeasureSeries, partial: Path, path: Path, attributes: Mapping[str, Any]) -> None:
    of_class = () if series.class_name is None else ("class",)
    coordinates = " ".join(["step epoch layer layer_name stage", *(f"{name} {name}_name" for name in of_class)])
    group = stores.create_group(
        partial, {"kind": "measure", "measure": series.measure, "coordinates": coordinates, **attributes}
    )
    stores.write_array(group, series.measure, series.values, ("step", "layer", *of_class))
    if series.standard_error is not None:
        stores.write_array(group, "standard_error", series.standard_error, ("step", "layer"))
    stores.write_array(group, "step", series.step, ("step",))
    stores.write_array(group, "epoch", series.epoch, ("step",))
    stores.write_array(group, "layer", np.arange(len(series.layer_name)), ("layer",))
    stores.write_array(group, "layer_name", np.array(series.layer_name), ("layer",))
    stores.write_array(group, "stage", series.stage, ("layer",))
    if series.class_name is not None:
        stores.write_array(group, "class", np.arange(len(series.class_name)), ("class",))
        stores.write_array(group, "class_name", np.array(series.class_name), ("class",))
    stores.finish(partial, path, group)


def open_series(path: str | os.PathLike[str], *, run: str | None = None, measure: str | None = None) -> MeasureSeries:
    """Read a measure of a run.

    Args:
        run: whose measure it must be, where that is known; one that does not say it is taken for it.
        measure: which it must be.

    Raises:
        StoreError: there is none, it is unfinished, a store of another kind, or of another run or measure.
    """
    group = stores.open_store(path, "measure")
    stores.require_ascending(group, "step")
    name = str(group.attrs["measure"])
    stores.require_owner(path, group.attrs, run=run, measure=measure)
    read = {key: stores.read(array) for key, array in group.arrays()}
    names = read["layer_name"].tolist()
    classes = read["class_name"].tolist() if "class_name" in read else None
    return MeasureSeries(
        name, read[name], read["step"], read["epoch"], names, read["stage"], read.get("standard_error"), classes
    )
