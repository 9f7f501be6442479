"""Configs as data: what they extend, and whether they fit the schema."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml


class ConfigError(ValueError):
    """The config cannot be used as it is; the message is one line."""


def resolve(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config with everything it extends.

    ``extends: [file, ...]`` names files in `folder` that the config is laid over, the later over the earlier. Mappings
    are merged key by key; None takes away what was there; anything else replaces it.

    Raises:
        ConfigError: a file is missing or unreadable, outside the folder, or extends itself.
    """
    return _resolve(dict(config), folder, ())


def _resolve(config: dict[str, Any], folder: Path, opened: tuple[str, ...]) -> dict[str, Any]:
    files = config.pop("extends", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"extends: expected a list of files, got {files!r}")
    merged: dict[str, Any] = {}
    for file in files:
        if file in opened:
            raise ConfigError(f"extends: {' extends '.join([*opened, file])}")
        merged = _merged(merged, _resolve(_read(file, folder), folder, (*opened, file)))
    return _merged(merged, config)


def _read(file: str, folder: Path) -> dict[str, Any]:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        known = ", ".join(sorted(str(p.relative_to(folder)) for p in folder.rglob("*.yaml")))
        raise ConfigError(f"extends: expected a file in {folder} ({known}), got {file!r}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"extends: {file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"extends: {file}: expected a mapping, got {type(content).__name__}")
    return content


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(both.get(key), Mapping):
            both[key] = _merged(both[key], value)
        elif value is None and key in both:
            del both[key]
        else:
            both[key] = value
    return both


def check(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Hold a resolved config against a JSON schema.

    Raises:
        ConfigError: one line that names the key, what was given and what is allowed.
    """
    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    if (error := jsonschema.exceptions.best_match(errors)) is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "config"
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = [name for name in error.instance if name not in allowed]
        raise ConfigError(f"{key}: unknown key {unknown[0]!r}{hint(unknown[0], allowed)}")
    if error.validator == "enum":
        raise ConfigError(f"{key}: got {error.instance!r}{hint(error.instance, map(str, error.validator_value))}")
    if error.validator == "type":
        expected = error.validator_value
        expected = expected if isinstance(expected, str) else " or ".join(expected)
        raise ConfigError(f"{key}: expected {expected}, got {error.instance!r}")
    raise ConfigError(f"{key}: {' '.join(error.message.split())}")


def known(name: str, allowed: Iterable[str], what: str) -> str:
    """`name`, which must be one of `allowed`."""
    if name not in (names := list(allowed)):
        raise ConfigError(f"unknown {what} {name!r}{hint(name, names)}")
    return name


def hint(name: object, allowed: Iterable[str]) -> str:
    """What was probably meant, or everything there is."""
    names = list(allowed)
    near = difflib.get_close_matches(str(name), names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(names)}"
