"""Configs as data: what they extend, and whether they fit the schema."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluscope.hints import did_you_mean, require_known
from reluscope.study.config_error import ConfigError
from reluscope.study.reading import read_mapping

if TYPE_CHECKING:
    import jsonschema

_KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
"""JSON schema's types, in words."""

_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}

_SHARES = {"milestones", "share", "shares", "warmup"}
"""Keys given as fractions of the training, which are easily taken for epochs or steps."""

_NUMBER = re.compile(r"([-+]?[0-9]+)(\.[0-9]*)?(?:[eE]([-+]?)([0-9]{1,2}))?")
"""The parts of a number as people write it; YAML 1.1 takes a power of ten only with a point and a sign."""

_LONGEST = 60  # characters of a value that a message repeats


_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What cannot be written into files or figures: control characters, but tabs and ends of lines, and halves of pairs."""

_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
"""Whole numbers that programs share; Python's own have no end."""


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
        raise ConfigError(f"extends: expected a list of files, got {_shown(files)}")
    merged: dict[str, Any] = {}
    for file in files:
        if file in opened:
            raise ConfigError(f"extends: {' extends '.join([*opened, file])}")
        merged = _merged(merged, _resolve(_read(file, folder), folder, (*opened, file)))
    return _merged(merged, config)


def _read(file: str, folder: Path) -> dict[str, Any]:
    try:
        path = (folder / file).resolve()
        is_there = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # no name that a file could have
        is_there = False
    if not is_there:
        known = ", ".join(sorted(str(p.relative_to(folder)) for p in folder.rglob("*.yaml")))
        raise ConfigError(f"extends: expected a file in {folder} ({known}), got {_shown(file)}")
    return read_mapping(path, f"extends: {file}")


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
    """Hold a resolved config against a JSON schema, of which a whole number is written without a point or exponent.

    Raises:
        ConfigError: one line that names the key, what was given and what is allowed.
    """
    import jsonschema  # here, because every job reads a config that was checked before

    _require_json(config, ())
    draft = jsonschema.Draft202012Validator
    whole = draft.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)  # JSON schema's own takes 64.0
    errors = jsonschema.validators.extend(draft, type_checker=whole)(schema).iter_errors(config)
    if (error := jsonschema.exceptions.best_match(errors)) is not None:
        key = ".".join(str(part) for part in error.absolute_path) or "config"
        raise ConfigError(f"{key}: {_sentence(error)}")


def _require_json(value: Any, place: tuple[str, ...]) -> None:
    """YAML knows more than JSON, in which stores keep a config: dates, names that are numbers, numbers without end."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _refused(place, f"expected text as a name, got {_shown(key)}; write it in quotes")
            if key != key.strip():
                raise _refused(place, f"expected a name without space around it, got {_shown(key)}")
            _require_json(key, place)
            _require_json(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _require_json(inner, (*place, str(number)))
    elif isinstance(value, str):
        if (odd := _UNPRINTED.search(value)) is not None:
            raise _refused(place, f"expected text, got the control character {odd[0]!r} in {_shown(value)}")
    elif isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise _refused(place, f"expected a whole number within 64 bits, got one of {value.bit_length()} bits")
    elif isinstance(value, float):
        if math.isnan(value):
            raise _refused(place, "expected a number, got .nan, which is none")
    elif value is not None:
        given = _cut(" ".join(str(value).split()))
        raise _refused(place, f"expected text, a number, a list or a mapping, got {given}; write it in quotes")


def _refused(place: tuple[str, ...], reason: str) -> ConfigError:
    return ConfigError(f"{'.'.join(place) or 'config'}: {reason}")


def known(name: str, allowed: Iterable[str], what: str) -> str:
    """`name`, which must be one of `allowed`.  Raises ValueError, which names `what` was asked for."""
    require_known(what, name, allowed)
    return name


def _sentence(error: jsonschema.ValidationError) -> str:
    """What is wrong, in words; JSON schema's own where it has no words here."""
    given, limit = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            allowed = list(error.schema.get("properties", {}))
            unknown = next(name for name in given if name not in allowed)
            return f"unknown key {_shown(unknown)}{did_you_mean(unknown, allowed)}"
        case "required":
            return f"missing key {next(name for name in limit if name not in given)!r}"
        case "enum":
            return f"unknown {_shown(given)}{did_you_mean(given, limit)}"
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            expected = " or ".join(_KINDS[kind] for kind in kinds)
            return f"expected {expected}, got {_shown(given)}{_as_number(given, kinds)}"
        case "pattern":
            return f"a name may hold letters, digits, - and _, and begins with a letter or digit, got {_shown(given)}"
        case "uniqueItems":
            repeated = next((item for position, item in enumerate(given) if item in given[:position]), given)
            return f"expected every entry once, got {_shown(repeated)} more than once"
        case "minItems" | "minProperties":
            return f"expected at least {limit} {'entry' if limit == 1 else 'entries'}, got {len(given) or 'none'}"
        case "maxItems":
            return f"expected at most {limit} entries, got {len(given)}"
        case "minLength":
            return "expected text, got an empty one"
        case "maxLength":
            return f"expected at most {limit} characters, got {len(given)}: {_shown(given)}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            share = "; it is a fraction of the training, 0.5 for half" if _is_share(error) else ""
            return f"expected {_BOUNDS[error.validator]} {limit}, got {_shown(given)}{share}"
    return " ".join(error.message.split())


def _is_share(error: jsonschema.ValidationError) -> bool:
    return next(part for part in reversed(error.absolute_path) if isinstance(part, str)) in _SHARES


def _shown(value: object) -> str:
    """A value as it looks in YAML, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    try:
        return _cut(repr(value))
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of too many digits"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _as_number(given: object, kinds: Sequence[str]) -> str:
    """How to write the number that a text looks like, where a number is expected."""
    if not isinstance(given, str) or not (match := _NUMBER.fullmatch(given)):
        return ""
    whole, fraction, sign, exponent = match.groups()
    if "integer" in kinds and float(given).is_integer():
        number = f"{float(given):.0f}"  # a power of ten would be read as a float
    elif "number" in kinds:
        number = f"{whole}{fraction or '.0'}e{sign or '+'}{exponent}" if exponent else given
    else:
        return ""
    return f"; {f'YAML reads {given} as text' if exponent else 'in quotes it is text'}: write {number}"
