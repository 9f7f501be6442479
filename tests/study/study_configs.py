"""A small study, and others that differ from it in one key."""

from __future__ import annotations

import copy
from typing import Any

CONFIG: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "images": 100},
    "counting": {"steps": {"every": 2}, "shard_length": 4},
    "methods": {"stepwise": {"epochs": 3, "batch_size": 50}},
    "runs": {
        "a": {"network": "resnet8", "seeds": [0, 7]},
        "b": {"network": {"name": "convnet", "depth": 8, "activation": "prelu"}, "title": "B", "method": "cyclic"},
    },
    "measures": {"occupancy": {"slots": 99}, "entropy": None},
    "figures": {"f": {"runs": ["a"], "measures": ["distinct_patterns"], "caption": "C", "scale": "symlog"}},
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = to
    return config
