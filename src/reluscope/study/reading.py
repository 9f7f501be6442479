"""YAML and JSON files of a config, held against what their loaders take without a word: a key that is given twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from reluscope.study.config_error import ConfigError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"  # the key <<, of which there may be several
_MOST_ENTRIES = 1_000_000
"""With every alias written out: aliases of aliases make billions of a few lines."""


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
        loader = _LOADER(path.read_bytes())
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _require_unique(root)
            return loader.construct_document(root) if construct else None
        finally:
            loader.dispose()
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {_where(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: its lists and mappings are nested too deep") from error
    except (OSError, ValueError) as error:  # as of a number with thousands of digits
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error


def _require_unique(root: yaml.Node) -> None:
    """Refuse equal keys, and count what aliases stand for.  Each node is looked at once."""
    sizes: dict[int, int] = {}

    def size_of(node: yaml.Node, place: tuple[str, ...]) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise ConfigError(f"line {_line(node)}: an alias in it stands for the whole of it")
            return sizes[id(node)]
        sizes[id(node)] = 0  # as long as it is being looked at
        size = 1
        if isinstance(node, yaml.MappingNode):
            _require_unique_keys(node, place)
            size += sum(size_of(value, (*place, str(key.value))) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(size_of(item, (*place, str(number))) for number, item in enumerate(node.value))
        if size > _MOST_ENTRIES:
            raise ConfigError(f"line {_line(node)}: expected at most {_MOST_ENTRIES:,} entries, its aliases make more")
        sizes[id(node)] = size
        return size

    size_of(root, ())


def _require_unique_keys(node: yaml.MappingNode, place: tuple[str, ...]) -> None:
    first: dict[tuple[str, str], yaml.Node] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        before = first.setdefault((key.tag, key.value), key)
        if before is not key:
            lines = f"on line {_line(before)} and again on line {_line(key)}"
            if _line(before) == _line(key):
                lines = f"twice on line {_line(key)}"
            given = ".".join((*place, key.value))
            raise ConfigError(f"{given} is given {lines}, of which YAML keeps the last; take one away")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _where(error: yaml.YAMLError) -> str:
    """A YAML error in one line, beginning with the line where reading stopped."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    begun = f" {error.context} from line {error.context_mark.line + 1}:" if error.context_mark else ""
    return f"line {error.problem_mark.line + 1}:{begun} {error.problem}"
