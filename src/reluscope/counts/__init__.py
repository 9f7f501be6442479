"""The counts store: every pattern of every layer at the counted steps of one shard, in Zarr."""

from reluscope.counts.store import CountsStore, open_counts
from reluscope.counts.writer import CountsWriter

__all__ = ["CountsStore", "CountsWriter", "open_counts"]
