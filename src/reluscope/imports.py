"""Objects that a config or a command line names by where they are imported from: ``"package.module:name"``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reluscope.hints import did_you_mean


def split_path(path: object) -> tuple[str, str]:
    """Module and name of an import path.  Imports nothing.

    Raises:
        ValueError: it does not read ``package.module:name``.
    """
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    parts = [*module.split("."), *name.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f"import: expected package.module:name, as in torchvision.models:resnet18, but got {path!r}")
    return module, name


def check_path(path: object) -> None:
    """Whether an import path is one and its package is there, as far as that can be told without importing it.

    Raises:
        ValueError: as `import_callable`, of the path and the package.
    """
    module, _ = split_path(path)
    _require_package(f"{path}", module.partition(".")[0])


def import_callable(path: str) -> Callable[..., Any]:
    """What ``package.module:name`` names, a function or a class.

    Modules are looked for where Python looks for them, and then in the working directory. The name may be dotted
    (``module:Class.method``). torchvision is imported with its guard (`guarded_torchvision`).

    Raises:
        ValueError: one line that says which part failed: the path, the package, the module (that there is none, or what
            it raised), the name, or that it cannot be called.
    """
    module_name, name = split_path(path)
    found: Any = _import_module(path, module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [known for known in dir(found) if not known.startswith("_")]
            raise ValueError(f"import {path}: {module_name} has no {part!r}{did_you_mean(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"import {path}: expected a function or a class, but {name} is of type {type(found).__name__}")
    return found


def call(path: str, arguments: dict[str, Any]) -> Any:
    """What the function or class at an import path returns for `arguments`.

    Raises:
        ValueError: as `import_callable`; or the call raised, and the line says what.
    """
    function = import_callable(path)
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise ValueError(f"import {path}: {_name_of(path)}({given}) raised {in_one_line(error)}") from error


def _import_module(path: str, module_name: str) -> Any:
    package = module_name.partition(".")[0]
    _require_package(path, package)
    try:
        if package == "torchvision":
            importlib.import_module("reluscope.guarded_torchvision")
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"import {path}: there is no module {error.name!r}") from error
        raise ValueError(f"import {path}: importing {module_name} raised {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        raise ValueError(f"import {path}: importing {module_name} raised {in_one_line(error)}") from error


def _require_package(path: str, package: str) -> None:
    """A package or module, installed or in the working directory, which is added to where Python looks."""
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.append(here)
    found = importlib.util.find_spec(package)
    if found is None:
        raise ValueError(
            f"import {path}: there is no package or module {package!r}, neither installed nor in {here}, nor on "
            "Python's path"
        )
    if package in sys.modules:
        return  # which of several is meant was decided when it was first imported
    own = [file for file in (Path(here, f"{package}.py"), Path(here, package, "__init__.py")) if file.is_file()]
    first = Path(found.origin or here)
    if own and not first.is_relative_to(here) and not any(map(first.is_relative_to, _installed())):
        raise ValueError(f"import {path}: {own[0]} is hidden by {first}, which Python finds first; rename one of them")


def _installed() -> set[str]:
    """Folders of installed packages and of Python's own."""
    return {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}


def _name_of(path: str) -> str:
    return path.partition(":")[2]


def in_one_line(error: BaseException) -> str:
    """What a stranger's code raised: its kind and message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
