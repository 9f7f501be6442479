"""YAML and JSON files of a config, held against what their loaders take without a word: a key that is given twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reluscope.study.config_error import ConfigError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"  # the key <<, of which there may be several
_MOST_ENTRIES = 1_000_000
"""With every alias written out: aliases of aliases make billions of a few lines."""
_DEEPEST = 100


def require_readable(path: Path) -> None:
    """Refuse a config file that cannot be read as it is written.

    Raises:
        ConfigError: no YAML, a key that is given twice in one mapping, or aliases without end; one line that names the
            lines of the file.
    """
    _loaded(path, path.name, construct=False)


def read_mapping(path: Path, name: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        name: what messages call the file.

    Raises:
        ConfigError: as `require_readable`; or it holds something else.
    """
    content = _loaded(path, name, construct=True)
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: expected a mapping, got {type(content).__name__}")
    return content


def _loaded(path: Path, name: str, *, construct: bool) -> Any:
    """What a YAML file holds; None where it is not constructed, but only held against its rules."""
    try:
        text = path.read_bytes()
        _require_unique(text)
        return yaml.load(text, _LOADER) if construct else None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {_where(error)}") from error
    except (OSError, ValueError) as error:  # as of a number with thousands of digits
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error


@dataclass
class _Open:
    """A mapping or list whose end is still to come.

    Attributes:
        keys: of a mapping, the line of each key, by what it resolves to; None of a list.
        anchor: by which aliases mean it.
        key: whose value comes next; None where a key comes next.
        size: entries so far.
    """

    keys: dict[tuple[str, str], int] | None
    anchor: str | None
    key: str | None = None
    size: int = 1


def _require_unique(text: bytes) -> None:
    """Refuse keys that are given twice, and what has no end, event by event: nothing recurses, or is made."""
    loader = _LOADER(text)
    opened = [_Open(None, None)]
    sizes: dict[str, int] = {}  # by anchor, 0 as long as its end is still to come
    while (event := loader.get_event()) is not None and not isinstance(event, yaml.StreamEndEvent):
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent() if opened[0].size > 1:
                raise ConfigError(f"line {line}: expected a single document, but here begins another one")
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                opened.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else None, event.anchor))
                if len(opened) > _DEEPEST:
                    raise ConfigError(f"line {line}: expected at most {_DEEPEST} lists and mappings within each other")
                if event.anchor:
                    sizes[event.anchor] = 0
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                closed = opened.pop()
                if closed.anchor:
                    sizes[closed.anchor] = closed.size
                _take(opened, "", closed.size, line)
            case yaml.AliasEvent():
                if not (size := sizes.get(event.anchor, 1)):
                    raise ConfigError(f"line {line}: the alias *{event.anchor} stands within what it means")
                _take(opened, "", size, line)
            case yaml.ScalarEvent():
                if event.anchor:
                    sizes[event.anchor] = 1
                tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
                _take(opened, event.value, 1, line, tag)


def _take(opened: list[_Open], value: str, size: int, line: int, tag: str = _MERGE) -> None:
    """Put a value, of so many entries, into what is open: as a key of a mapping where one comes next."""
    here = opened[-1]
    here.size += size
    if here.size > _MOST_ENTRIES:
        raise ConfigError(f"line {line}: expected at most {_MOST_ENTRIES:,} entries, its aliases make more")
    if here.keys is None:
        return
    if here.key is not None:
        here.key = None
        return
    here.key = value
    if tag == _MERGE:
        return
    if (first := here.keys.get((tag, value))) is not None:
        lines = f"twice on line {line}" if first == line else f"on line {first} and again on line {line}"
        given = ".".join([*(one.key for one in opened[:-1] if one.key), value])
        raise ConfigError(f"{given} is given {lines}, of which YAML keeps the last; take one away")
    here.keys[tag, value] = line


def _where(error: yaml.YAMLError) -> str:
    """A YAML error in one line, beginning with the line where reading stopped."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    begun = f" {error.context} from line {error.context_mark.line + 1}:" if error.context_mark else ""
    return f"line {error.problem_mark.line + 1}:{begun} {error.problem}"
