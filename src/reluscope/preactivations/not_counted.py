"""What a network calls and no count holds, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reluscope.preactivations.warned import listed

BY_SIGN = "it is not piecewise linear; signs=True (--signs, layers: {signs: true}) counts the sign of its input"
NO_IMAGES = "its input does not depend on the images"
UNSEEN = "its own forward function calls no activation that can be seen"
FURTHER = "it is a further call in a module that is counted once"
OTHER_THREAD = "it runs in another thread"
ELSEWHERE = "what NumPy or another library computes cannot be seen, and may be an activation"
LEFT_OUT = "include or exclude leave it out"


@dataclass(frozen=True)
class NotCounted:
    """What has the shape of an activation, and is in no layer.

    Attributes:
        name: as a layer's; calls of one operation by one module share it.
        operation: what is called.
        reason: why it is not counted.
    """

    name: str
    operation: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """As a counts store keeps it."""
        return {"name": self.name, "operation": self.operation, "reason": self.reason}

    def __str__(self) -> str:
        return f"{self.name} ({self.operation}): {self.reason}"


def in_one_line(not_counted: Sequence[NotCounted], num_counted: int) -> str:
    """All that is not counted, by reason."""
    by_reason: dict[str, list[str]] = {}
    for one in not_counted:
        by_reason.setdefault(one.reason, []).append(f"{one.name} ({one.operation})")
    told = "; ".join(f"{listed(names)}: {reason}" for reason, names in by_reason.items())
    total = num_counted + len(not_counted)
    return (
        f"{len(not_counted)} of {total} activations are not counted ({told}); reluscope.layers lists them all, and "
        "exclude silences what it names"
    )
