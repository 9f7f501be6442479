"""Values of a `data` section: each is what its key takes, or refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reluscope.hints import did_you_mean, require_known
from reluscope.imports import split_path


def section_of(key: str, section: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The given keys of a mapping, without those that are None; unknown keys are refused."""
    if not isinstance(section, Mapping):
        raise ValueError(f"{key}: expected a mapping with the keys {', '.join(allowed)} but got {section!r}")
    for name in section:
        if name not in allowed:
            raise ValueError(f"{key}: unknown key {name!r}{did_you_mean(name, allowed)}")
    return {name: value for name, value in section.items() if value is not None}


def path_of(name: str, path: Any) -> str | None:
    """Where the data set `name` lies; None where it has no path."""
    if path is None and name in ("digits", "import"):
        return None
    if path is None and name in ("cifar10", "cifar100"):
        return "data"
    if not isinstance(path, str) or not path:
        what = "a .npz, .npy or Zarr store" if name == "arrays" else f"a folder of images for {name}"
        raise ValueError(f"data.path: expected the path of {what} but got {path!r}")
    return path


def import_path_of(path: Any) -> str:
    """A ``package.module:name``."""
    try:
        split_path(path)
    except ValueError as error:
        raise ValueError(f"data.{error}") from error
    return path


def arguments_of(key: str, arguments: Any) -> dict[str, Any]:
    """What something imported is called with."""
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise ValueError(f"{key}: expected a mapping of names to values but got {arguments!r}")
    return dict(arguments)


def resize_of(size: Any) -> tuple[int, int] | None:
    """(height, width); None where none is given."""
    if size is None:
        return None
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"data.resize: expected [height, width] in pixels but got {size!r}")
    height, width = (integer("data.resize", side, 1) for side in size)
    return height, width


def one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of the allowed values, or None."""
    if value is not None:
        require_known(key, value, allowed)
    return value


def boolean(key: str, value: Any) -> bool:
    """True or false, and no number."""
    if not isinstance(value, bool):
        raise ValueError(f"{key}: expected true or false but got {value!r}")
    return value


def integer(key: str, value: Any, minimum: int) -> int:
    """A whole number from `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{key}: expected an integer of at least {minimum} but got {value!r}")
    return value
