"""NAME=VALUE on a command line, with the values that YAML reads, as a config has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def parse_values(flag: str, given: Sequence[str], example: str) -> dict[str, Any]:
    """The values by name.

    Raises:
        ValueError: one does not read NAME=VALUE, or YAML cannot read its value; one line that names the flag.
    """
    import yaml

    found = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{flag}: expected NAME=VALUE, as in {example}, but got {option!r}")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{flag} {name}: {error}") from error
    return found
