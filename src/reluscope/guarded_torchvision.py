"""torchvision, also beside a torch that lacks its compiled operators.  Nothing else imports torchvision directly.

The x86-64 torchvision wheel is built for CUDA. Beside a CPU-only torch its library does not load, and the import stops
where it registers the shapes of operators that were then never defined ("operator torchvision::nms does not exist").
The data sets, transforms and models do not need those operators: declaring their names is enough to import them.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch

_MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_MAX_OPERATORS = 32  # torchvision 0.28 misses two

_libraries: list[torch.library.Library] = []  # a declaration lives as long as its Library


def _import_torchvision() -> ModuleType:
    """Import torchvision; where it stops at a missing operator, declare that operator and try again."""
    for _ in range(_MAX_OPERATORS):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = _MISSING_OPERATOR.fullmatch(str(error))
            if missing is None:
                raise
            _declare(missing[1])
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]  # half imported
    return importlib.import_module("torchvision")


def _declare(operator: str) -> None:
    if not _libraries:
        _libraries.append(torch.library.Library("torchvision", "DEF"))
    _libraries[0].define(f"{operator}() -> ()")


torchvision = _import_torchvision()
