"""What a store says of work that went on elsewhere than where it was begun, with other bits perhaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reluscope.stores import difference


def machines(
    begun: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str], step: int
) -> tuple[list[dict[str, Any]], str | None]:
    """On which machines work was done that goes on after `step`, and in what the last of them is not the one it goes on
    with, in words; None where they agree.

    Args:
        begun: attributes of the unfinished store; ``resumed`` lists the machines after the first, each with the step
            that it went on after.
        now: the same of what goes on.
        names: of attributes that describe the machine.
    """
    changes = [change for change in begun.get("resumed", []) if change["step"] < step]
    last = changes[-1] if changes else begun
    here = {name: now[name] for name in names if name in now}
    if different := difference(last, here):
        changes.append({"step": step, **here})
    return changes, different
