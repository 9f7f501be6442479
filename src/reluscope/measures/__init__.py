"""Measures over pattern counts: pure functions, `PatternCounts` in, a Python float out.

A measure is one public function in one file of this folder, and nothing needs to be registered:

    reluscope.measures.entropy(counts)
    reluscope.measures.find("weighted_jaccard_to_initial").needs      # frozenset({'initial'})

**The rule.** A public top-level function of a public file (neither name starts with an underscore) is a measure when
it has a parameter `counts`, and each of its further parameters either has a default or is one of the known needs.
The parameter names say what the function is given:

    counts      the layer's counts at this step
    initial     the layer's counts at the first counted step, the initialisation
    final       the layer's counts at the last counted step
    previous    the layer's counts at the previous counted step; there is none at the first, where the caller writes NaN
    classes     how often each pattern occurs in each class (`ClassCounts`), where labels were counted
    shuffled_joint_entropy   of patterns and shuffled labels, in bits, where these were counted too
    any other   an option; it has a default, and the configuration may set it

A measure of `classes` may return an array [num_classes] instead of a float: a value a class.

**Samples.** Where the counts store keeps a sample of pattern space, all of these are `SampledCounts`. They have exact
numbers of all patterns (`num_positions`, `num_distinct`, `largest_count`, `entropy`), and the patterns of the sample
(`counts.sample.keys`), from which a measure may give an `Estimate` instead of a float. There are no `keys` and `counts`
of all patterns, and a measure that asks for them is refused with `counting.sample`.

The other public functions (`weighted_jaccard(counts, other)`) are not measures, but are reached here all the same.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from reluscope.measures._discovery import (
    OF_CLASSES,
    Measure,
    check_labels,
    check_options,
    check_sample,
    code,
    find,
    function_names,
    is_per_class,
    load_function,
    names,
    needs,
)
from reluscope.measures._estimates import Estimate

__all__ = [
    "OF_CLASSES",
    "Estimate",
    "Measure",
    "check_labels",
    "check_options",
    "check_sample",
    "code",
    "find",
    "is_per_class",
    "names",
    "needs",
]


class _MeasuresPackage(ModuleType):
    """This package, in which a function keeps its name where its file is named alike (entropy in entropy.py)."""

    def __setattr__(self, name: str, value: Any) -> None:
        """The import system binds each submodule to its package: bind the function instead, where there is one."""
        if isinstance(value, ModuleType):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _MeasuresPackage


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in function_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = globals()[name] = load_function(name)  # found at once the next time
    return function


def __dir__() -> list[str]:
    return sorted({*__all__, *function_names()})
