"""Which files of the package a file depends on, read from its import statements without running it.

The workflow lists them as inputs of drawing and of the scorecard, so that an edit reruns just what it touches. A file
is parsed once, until it is edited.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent
"""Folder of the package."""


class Parameters(NamedTuple):
    """The names of a function's parameters, all of which can be given by name."""

    required: tuple[str, ...]  # without a default
    optional: tuple[str, ...]  # with one


def closure(path: Path) -> list[Path]:
    """`path`, then every file of the package that it imports, directly or not, sorted.

    Import statements count wherever they stand (also under ``if TYPE_CHECKING``, since a type's methods are used
    without importing it), relative ones included. Parent packages, which Python runs on the way, are left out: they
    decide no value.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imported_files(file))
    return [path, *sorted(found - {path})]


def module_files(module: str) -> list[Path]:
    """The file of a module of this package; none where it is not a module of this package."""
    package, *parts = module.split(".")
    if package != ROOT.name:
        return []
    base = ROOT.joinpath(*parts)
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def parse(path: Path) -> ast.Module:
    """A file's source.

    Raises:
        ValueError: it is no Python; one line that says where.
    """
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error


def functions(path: Path) -> dict[str, Parameters]:
    """The top-level functions of a file and their parameters, in the order written."""
    return _functions(path, path.stat().st_mtime_ns)


@functools.cache
def _functions(path: Path, modified: int) -> dict[str, Parameters]:
    body = parse(path).body
    return {node.name: _parameters(node.args) for node in body if isinstance(node, ast.FunctionDef)}


def _parameters(arguments: ast.arguments) -> Parameters:
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults + arguments.kw_defaults
    parameters = list(zip(arguments.args + arguments.kwonlyargs, defaults, strict=True))
    required = tuple(parameter.arg for parameter, default in parameters if default is None)
    optional = tuple(parameter.arg for parameter, default in parameters if default is not None)
    return Parameters(required, optional)


def _imported_files(path: Path) -> Iterator[Path]:
    for module, name in _imports(path, path.stat().st_mtime_ns):
        yield from (name is not None and module_files(f"{module}.{name}")) or module_files(module)


@functools.cache
def _imports(path: Path, modified: int) -> list[tuple[str, str | None]]:
    """Every ``import module`` as (module, None), every ``from module import name`` as (module, name)."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found.extend((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute_module(path, node)
            found.extend((module, alias.name) for alias in node.names)
    return found


def absolute_module(path: Path, node: ast.ImportFrom) -> str:
    """The full name of the module after ``from``."""
    if not node.level:
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(ROOT.parent)
    return ".".join([*folder.parts, *([node.module] if node.module else [])])
