"""Which files of the package a file depends on, read from its import statements without running it.

The workflow lists them as inputs of measuring and drawing, so that an edit reruns just what it touches.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent
"""Folder of the package."""

Resolve = Callable[[str, str | None], list[Path]]
"""Files behind ``import module`` (the name None) or behind ``from module import name``, where `name` is no module
itself; empty where the module's own file is all."""


def closure(path: Path, resolve: Resolve = lambda module, name: []) -> list[Path]:
    """`path`, then every file of the package that it imports, directly or not, sorted.

    Import statements count wherever they stand (also under ``if TYPE_CHECKING``, since a type's methods are used
    without importing it), relative ones included. Parent packages, which Python runs on the way, are left out: they
    decide no value.

    Args:
        resolve: finds the files behind names that a package takes from its modules by itself.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imported_files(file, resolve))
    return [path, *sorted(found - {path})]


def module_files(module: str) -> list[Path]:
    """The file of a module of this package; none where it is not a module of this package."""
    package, *parts = module.split(".")
    if package != ROOT.name:
        return []
    base = ROOT.joinpath(*parts)
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def _imported_files(path: Path, resolve: Resolve) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from resolve(alias.name, None) or module_files(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute_module(path, node)
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield from (
                    resolve(full, None) or module_files(full) or resolve(module, alias.name) or module_files(module)
                )


def _absolute_module(path: Path, node: ast.ImportFrom) -> str:
    """The full name of the module after ``from``."""
    if not node.level:
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(ROOT.parent)
    return ".".join([*folder.parts, *([node.module] if node.module else [])])
