"""The weights store: every dumped step's parameters and buffers, lossless, in Zarr."""

from reluscope.checkpoints.machine import machine
from reluscope.checkpoints.store import WeightsStore, open_weights
from reluscope.checkpoints.writer import WeightsWriter

__all__ = ["WeightsStore", "WeightsWriter", "machine", "open_weights"]
