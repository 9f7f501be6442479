"""reluscope: how the binary activation patterns of ReLU networks evolve during training.

The names below are the public interface. They are loaded when first used, so that measuring and drawing never wait
for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reluscope import measures as measures
    from reluscope.checkpoints import open_weights as open_weights
    from reluscope.counting import count_patterns as count_patterns
    from reluscope.counting.layer_list import layers as layers
    from reluscope.counts import open_counts as open_counts
    from reluscope.networks import build_network as build_network
    from reluscope.patterns import PatternCounts as PatternCounts
    from reluscope.recording import PatternRecorder as PatternRecorder

__version__ = "0.1.0"

_HOME = {
    "PatternCounts": "reluscope.patterns",
    "PatternRecorder": "reluscope.recording",
    "build_network": "reluscope.networks",
    "count_patterns": "reluscope.counting",
    "layers": "reluscope.counting.layer_list",
    "open_counts": "reluscope.counts",
    "open_weights": "reluscope.checkpoints",
}

__all__ = [
    "PatternCounts",
    "PatternRecorder",
    "build_network",
    "count_patterns",
    "layers",
    "measures",
    "open_counts",
    "open_weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "measures":
        return importlib.import_module("reluscope.measures")
    raise AttributeError(f"module 'reluscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
