"""The measures store: one measure of one run over time and layers, in Zarr."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MeasureSeries:
    """One measure of one run.

    Attributes:
        measure: the measure's name.
        values: float64, shape [step, layer]; NaN where the measure is undefined.
        step: optimizer updates done, int64, shape [step], ascending.
        epoch: the same in epochs, float64, shape [step].
        layer_name: shape [layer], in forward order.
        stage: int64, shape [layer], from 0: layers that share one spatial resolution, in forward order.
    """

    measure: str
    values: NDArray[np.float64]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    layer_name: list[str]
    stage: NDArray[np.int64]
