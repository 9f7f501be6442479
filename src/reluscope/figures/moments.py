"""Moments of a training, as figures choose them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from reluscope.figures.style import FONT_SIZE, wrap_bold
from reluscope.hints import require_known

_ROUNDING = 1e-6  # of a step: 0.29 x 100 steps is a little less than 29


class Moment(TypedDict, total=False):
    """A moment of the training: either `step` or `share`, and what to call it.

    Attributes:
        step: optimizer updates done; must have been counted.
        share: fraction, 0 to 1, of the run's last counted step; the nearest counted step at or before it is taken.
        title: beside its row, above the step.
    """

    step: int
    share: float
    title: str


def require_moments(kind: str, moments: Sequence[Moment]) -> None:
    """Refuse no moments, and those that are not a step or a share.

    Args:
        kind: of the figure, named first in the message.

    Raises:
        ValueError: see above.
    """
    if not moments:
        raise ValueError(f"{kind}: moments: expected at least one, but got none")
    for moment in moments:
        for key in moment:
            require_known(f"{kind}: key of a moment", key, Moment.__annotations__)
        if ("step" in moment) == ("share" in moment):
            raise ValueError(f"{kind}: moments: expected either step or share, but got {dict(moment)}")
        if not 0 <= moment.get("share", 0) <= 1:
            raise ValueError(f"{kind}: moments: share: expected 0 to 1, but got {moment['share']}")


def position(kind: str, moment: Moment, counted: NDArray[np.int64], run: str) -> int:
    """Where a moment lies among the counted steps of a run, int64, ascending.

    Args:
        kind: of the figure, named first in the message.

    Raises:
        ValueError: the step was not counted, or none at or before the share.
    """
    if "share" in moment:
        wanted = moment["share"] * counted[-1]
        after = int(np.searchsorted(counted, wanted + _ROUNDING, side="right"))
        if after == 0:
            raise ValueError(
                f"{kind}: moments: share: expected a counted step of {run!r} at or before step {wanted:g}, "
                f"but the first is {counted[0]}"
            )
        return after - 1
    position = int(np.searchsorted(counted, moment["step"]))
    if moment["step"] not in counted[position : position + 1]:
        nearest = " and ".join(str(step) for step in counted[max(position - 1, 0) : position + 1])
        raise ValueError(
            f"{kind}: moments: step: expected a counted step of {run!r} (the nearest: {nearest}), "
            f"but got {moment['step']}"
        )
    return position


def moment_label(moment: Moment, reached: Sequence[int], height: float) -> str:
    """What stands beside a row of panels: the moment's name above its step.

    Args:
        reached: the step of each run.
        height: of the row, inches.
    """
    first, last = min(reached), max(reached)
    at = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    name = moment.get("title") or (f"{moment['share']:.0%} of training" if "share" in moment else at)
    return at if name == at else f"{wrap_bold(name, height, FONT_SIZE)}\n{at}"
