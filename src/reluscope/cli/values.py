"""Values on a command line: numbers, and NAME=VALUE with what YAML reads, as a config has it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

MOST_THREADS = 1024


def positive(given: str) -> int:
    """A whole number of at least 1, as argparse's `type`."""
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, but got {given!r}")
    return int(given)


def threads(given: str) -> int:
    """A number of threads that a machine can start, as argparse's `type`."""
    if (number := positive(given)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_THREADS}, but got {given}")
    return number


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
