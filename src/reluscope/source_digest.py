"""What a function does, as a digest of its source: its own definition and all that it uses, wherever in the package.

The workflow gives it to the jobs of a measure, so that an edit reruns just what it touches: not the other functions of
the same file, and nothing where only comments, docstrings or the layout change. Nothing is run: files are parsed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reluscope.sources import ROOT, absolute_module, module_files, parse

_ALL = "*"
"""Every definition of a file."""

Definition = tuple[Path, str]
"""A file and the name that one of its top-level statements gives, or `_ALL`."""

Resolve = Callable[[str, str | None], list[Path]]
"""Files behind ``import module`` (the name None) or behind ``from module import name``, where `name` is no module
itself; empty where the module's own file is all."""


def digest(path: Path, name: str, resolve: Resolve = lambda module, name: []) -> str:
    """16 hexadecimal digits that change when the function `name` of the file `path`, or anything that it uses, does.

    What it uses is read from the names in its definition, in the definitions that these lead to, and so on, through
    import statements into other files of the package; a class is one definition, a module imported as a whole is all of
    its definitions. Top-level statements that give no name (a call, an ``import *``) belong to each definition of their
    file.

    Args:
        resolve: finds the files behind names that a package takes from its modules by itself.
    """
    found: set[Definition] = set()
    waiting: list[Definition] = [(path, name)]
    while waiting:
        definition = waiting.pop()
        if definition not in found:
            found.add(definition)
            waiting.extend(_used_by(*definition, resolve))
    texts = sorted(f"{path.relative_to(ROOT)}: {name}\n{_about(path, name).text}" for path, name in found)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _used_by(path: Path, name: str, resolve: Resolve) -> Iterator[Definition]:
    """The definitions that one uses itself."""
    for module, used in _about(path, name).uses:
        if module is None:
            assert used is not None
            yield path, used
        else:
            yield from _imported(module, used, resolve)


def _imported(module: str, name: str | None, resolve: Resolve) -> Iterator[Definition]:
    """What ``import module`` (the name None) or ``from module import name`` stands for."""
    whole = module if name is None else f"{module}.{name}"
    if files := resolve(whole, None) or module_files(whole):
        yield from ((file, _ALL) for file in files)
    elif name is not None:
        for file in resolve(module, name) or module_files(module):
            yield file, name if name in _parse(file, file.stat().st_mtime_ns).named else _ALL


class _About(NamedTuple):
    """What a file says of one of its definitions."""

    text: str
    uses: list[tuple[str | None, str | None]]  # (None, name) of the same file, (module, name) or (module, None)


def _about(path: Path, name: str) -> _About:
    return _read(path, path.stat().st_mtime_ns, name)


@functools.cache  # hundreds of measures use the same few definitions
def _read(path: Path, modified: int, name: str) -> _About:
    file = _parse(path, modified)
    named = [file.named.get(name, [])] if name != _ALL else file.named.values()
    statements = [*itertools.chain.from_iterable(named), *file.nameless]
    uses: list[tuple[str | None, str | None]] = []
    for node in itertools.chain.from_iterable(map(ast.walk, statements)):
        if isinstance(node, ast.Name) and node.id in file.named:
            uses.append((None, node.id))
        elif isinstance(node, ast.Import):
            uses.extend((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            uses.extend((absolute_module(path, node), alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and (owner := _dotted(node.value, file.imported)):
            uses.append((owner, node.attr))
    return _About("\n".join(map(ast.unparse, statements)), uses)


@dataclass(frozen=True)
class _File:
    """The top-level statements of a file, without docstrings.

    Attributes:
        named: those that give a name, by it.
        nameless: the others.
        imported: what imported names stand for, as ``package.module`` or ``package.module.name``.
    """

    named: dict[str, list[ast.stmt]]
    nameless: list[ast.stmt]
    imported: dict[str, str]


@functools.cache
def _parse(path: Path, modified: int) -> _File:
    """A file, parsed once until it is edited."""
    tree = _WithoutDocstrings().visit(parse(path))
    file = _File({}, [], dict(_names_imported(tree, path)))
    for statement in (part for whole in tree.body for part in _split(whole)):
        names = list(_names_given(statement))
        for name in names:
            file.named.setdefault(name, []).append(statement)
        if not names:
            file.nameless.append(statement)
    return file


def _names_imported(tree: ast.AST, path: Path) -> Iterator[tuple[str, str]]:
    """Each name that an import gives, anywhere in the file, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = absolute_module(path, node)
            yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2


def _dotted(node: ast.expr, imported: Mapping[str, str]) -> str | None:
    """What ``name.attribute.attribute`` stands for, where the name was imported; None of anything else."""
    if isinstance(node, ast.Name):
        return imported.get(node.id)
    owner = _dotted(node.value, imported) if isinstance(node, ast.Attribute) else None
    return f"{owner}.{node.attr}" if owner and isinstance(node, ast.Attribute) else None


def _split(statement: ast.stmt) -> list[ast.stmt]:
    """An import of several names as one of each, so that who uses one of them does not use the others."""
    match statement:
        case ast.Import():
            return [ast.Import([alias]) for alias in statement.names]
        case ast.ImportFrom():
            return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [statement]


def _names_given(statement: ast.AST) -> Iterator[str]:
    """The names that a top-level statement binds, as those that stand below an ``if`` or ``try`` too.

    Also those that it only fills, as ``table[key] = value`` does: it belongs to what they are.
    """
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        names = (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        yield from (name for name in names if name != "*")
    elif isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
        yield statement.id
    elif isinstance(statement, ast.Subscript | ast.Attribute) and isinstance(statement.ctx, ast.Store):
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
    else:
        for below in ast.iter_child_nodes(statement):
            yield from _names_given(below)


class _WithoutDocstrings(ast.NodeTransformer):
    """Takes away strings that stand alone."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.body:
            node.body = [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node
