"""Finds the measures in the files of this folder.

The files are parsed, not imported: names, needs and sources are known without running any measure's code, and one
measure is imported without the others.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluscope import source_digest, sources
from reluscope.hints import did_you_mean
from reluscope.imports import in_one_line
from reluscope.measures._estimates import Estimate
from reluscope.patterns import ClassCounts, PatternCounts, SampledError

OF_CLASSES = frozenset({"classes", "shuffled_joint_entropy"})
"""What a measure is given where labels were counted: attributes of the layer's `PatternCounts`."""

KNOWN_NEEDS = frozenset({"initial", "final", "previous"}) | OF_CLASSES

TAKEN = frozenset({"step", "epoch", "layer", "layer_name", "stage", "standard_error", "class", "class_name"})
"""Names of the other arrays in a measures store, beside the measure's own."""

_FOLDER = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Measure:
    """One measure, ready to be called: `function(counts, **needs, **options)`.

    Attributes:
        name: the function's name, and the name in the configuration.
        function: takes a `PatternCounts` as `counts` and as each of `needs`, and returns a float; or takes
            `SampledCounts`, and returns a float where it is exact and an `Estimate` where it is not. Where it takes
            `classes` it may return float64 [num_classes], a value a class.
        needs: what else of the same layer it takes: of "initial", "final", "previous", "classes" and
            "shuffled_joint_entropy".
        options: each option's default.
        summary: the first line of its docstring.
    """

    name: str
    function: Callable[..., float | Estimate | NDArray[np.float64]]
    needs: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True)
class _Definition:
    """A public top-level function as it is written in its file."""

    name: str
    path: Path
    required: tuple[str, ...]  # parameters without a default
    optional: tuple[str, ...]  # parameters with one

    @property
    def needs(self) -> frozenset[str]:
        return KNOWN_NEEDS.intersection(self.required)

    @property
    def unknown(self) -> list[str]:
        """What keeps it from being a measure; empty for a measure."""
        missing = [] if "counts" in self.required else ["no parameter 'counts'"]
        missing += [f"a measures store has another array {self.name!r}"] if self.name in TAKEN else []
        given = {"counts", *KNOWN_NEEDS}
        return missing + [f"parameter {name!r} has no default" for name in self.required if name not in given]


def names() -> list[str]:
    """The names of all measures, sorted.  Imports none of them."""
    return sorted(name for name, definition in _definitions().items() if not definition.unknown)


def needs(name: str) -> frozenset[str]:
    """What the measure takes beside the counts; see `Measure`.  Imports no measure.

    Raises:
        ValueError: no measure has that name.
    """
    return _definition(name).needs


def find(name: str) -> Measure:
    """The measure of that name; imports only the file that defines it (and what that file imports).

    Raises:
        ValueError: no measure has that name.
    """
    definition = _definition(name)
    function = load_function(name)
    parameters = inspect.signature(function).parameters
    return Measure(
        name=name,
        function=function,
        needs=definition.needs,
        options={option: parameters[option].default for option in definition.optional},
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
    )


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the measure `name` does not have, values of another type than the option's default, and those
    that the measure itself refuses when it is tried on two patterns.

    Whole numbers pass for numbers. Imports the measure only where there are options.

    Raises:
        ValueError: the measure or one of the options is unknown, or a value is of another type, or refused.
    """
    known = _definition(name).optional
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"unknown option {option!r}{did_you_mean(option, known)}")
        kind = type(find(name).options[option])
        if kind in _KINDS and type(value) is not kind and (kind, type(value)) != (float, int):
            raise ValueError(f"{option}: expected {_KINDS[kind]}, got {value!r}")
    if options:
        try:
            _tried(name, options)
        except (ArithmeticError, LookupError):  # two patterns may be too few for it
            return
        except TypeError as error:
            raise ValueError(f"{', '.join(options)}: {error}") from error


def is_per_class(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the measure gives each class a value of its own, by trying it on two; imports it only where it may.

    Raises:
        ValueError: no measure has that name, or it raised something.
    """
    if "classes" not in needs(name):
        return False
    try:
        return isinstance(_tried(name, options), np.ndarray)
    except Exception as error:  # whoever wrote it, it may raise anything
        raise ValueError(f"{name}: tried on two patterns of two classes, it raised {in_one_line(error)}") from error


def _tried(name: str, options: Mapping[str, Any]) -> float | Estimate | NDArray[np.float64]:
    """What the measure makes of two patterns, one in each of two classes."""
    measure = find(name)
    keys, once = np.arange(2, dtype=np.uint16), np.ones(2, np.int64)
    classes = ClassCounts(2, once.astype(np.uint8), np.array([0, 1], np.uint8), once)
    counts = PatternCounts("relu", keys, once, 16, classes=classes, shuffled_joint_entropy=1.0)
    given = {**dict.fromkeys(measure.needs, counts), "classes": classes, "shuffled_joint_entropy": 1.0}
    return measure.function(counts=counts, **{need: given[need] for need in measure.needs}, **options)


def check_labels(name: str, labels: bool | str) -> None:
    """Refuse a measure of classes where none were counted.  Imports no measure.

    Args:
        labels: as in a config's section `counting`: whether patterns were counted per class, or "shuffled".

    Raises:
        ValueError: there is no such measure, or it needs what was not counted.
    """
    wanted = needs(name)
    if "shuffled_joint_entropy" in wanted and labels != "shuffled":
        raise ValueError("needs counting.labels: shuffled")
    if wanted & OF_CLASSES and not labels:
        raise ValueError("needs counting.labels: true")


def check_sample(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a measure that wants every pattern where only a sample is kept, by trying it on one.

    Raises:
        ValueError: it does, or it raised something else.
    """
    if needs(name) & OF_CLASSES:
        raise ValueError("does not go with counting.sample, which keeps no counts per class")
    measure = find(name)
    patterns = PatternCounts("relu", np.arange(64, dtype=np.uint16), np.ones(64, np.int64), 16)
    sample, other = patterns.sampled(2), patterns.sampled(2)  # not the same state: with itself, each compares exactly
    try:
        measure.function(counts=sample, **dict.fromkeys(measure.needs, other), **options)
    except (SampledError, TypeError) as error:  # an Estimate in a sum or a product is a TypeError
        raise ValueError(f"does not go with counting.sample, which keeps a share of the patterns: {error}") from error
    except ArithmeticError:  # the states that it compares are alike here
        return
    except Exception as error:  # whoever wrote it, it may raise anything
        raise ValueError(f"tried on a sample of {sample.sample}, it raised {in_one_line(error)}") from error


def code(name: str) -> str:
    """A digest of the measure's code and of all that it uses in the package (`source_digest`).  Imports no measure.

    A function imported from `reluscope.measures` is that of the file that defines it; whoever imports
    `reluscope.measures` as a whole uses every measure.

    Raises:
        ValueError: no measure has that name.
    """
    return source_digest.digest(_definition(name).path, name, _imported_from_here)


def _imported_from_here(module: str, name: str | None) -> list[Path]:
    """Where `name` of this package comes from, or all of it; see `source_digest.digest`."""
    if module != _PACKAGE:
        return []
    definitions = _definitions()
    return [definitions[name].path] if name in definitions else [_FOLDER / "__init__.py", *_measure_files()]


def function_names() -> list[str]:
    """The names of all public functions of the measure files, measures or not."""
    return sorted(_definitions())


def load_function(name: str) -> Callable[..., Any]:
    """Import the file that defines the public function `name`, and return the function.

    Raises:
        ValueError: the import raised something.
    """
    path = _definitions()[name].path
    try:
        return getattr(importlib.import_module(f"{_PACKAGE}.{path.stem}"), name)  # type: ignore[no-any-return]
    except Exception as error:  # whoever wrote it, it may raise anything
        raise ValueError(f"measure {name!r}: importing {path} raised {in_one_line(error)}") from error


def _measure_files() -> list[Path]:
    return sorted(path for path in _FOLDER.glob("*.py") if not path.name.startswith("_"))


def _definitions() -> dict[str, _Definition]:
    found: dict[str, _Definition] = {}
    for path in _measure_files():
        for name, parameters in sources.functions(path).items():
            if not name.startswith("_"):
                if name in found:
                    raise ValueError(f"measure {name!r} is defined twice: {found[name].path} and {path}")
                found[name] = _Definition(name, path, *parameters)
    return found


def _definition(name: str) -> _Definition:
    """The definition of the measure `name`, or an error that says why there is none."""
    definitions = _definitions()
    if name not in definitions:
        raise ValueError(f"unknown measure {name!r}{did_you_mean(name, names())}")
    if reasons := definitions[name].unknown:
        raise ValueError(f"measure {name!r}: the function exists, but is no measure: {', '.join(reasons)}")
    return definitions[name]
