"""How each measure looks in a figure, and the sizes that all figures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FONT_SIZE = 7.0
"""Points, for titles and labels. Figures are drawn at print size."""

TICK_SIZE = 6.0
"""Points, for tick labels: the smallest type in a figure."""

MISSING_COLOR = "0.85"
"""Light grey, where a measure is undefined (NaN)."""

Norm = Literal["linear", "log", "share", "diverging"]


@dataclass(frozen=True)
class MeasureStyle:
    """How one measure is drawn.

    Attributes:
        label: what the colour bar says.
        norm: how values map to colours: "linear"; "log" for ranges over decades; "share" is linear and keeps within
            0 and 1; "diverging" is symmetric about 0.
        colormap: a Matplotlib colour map: perceptually uniform, or of two colours that part at white for "diverging".
    """

    label: str
    norm: Norm = "linear"
    colormap: str = "viridis"


_STYLES = {
    "distinct_patterns": MeasureStyle("Distinct patterns", "log"),
    "appeared": MeasureStyle("Appeared patterns per distinct pattern", "share", "magma"),
    "vanished": MeasureStyle("Vanished patterns per distinct pattern", "linear", "magma"),
    "pattern_changes": MeasureStyle("Pattern changes per distinct pattern", "linear", "magma"),
    "net_pattern_changes": MeasureStyle("Net pattern changes per distinct pattern", "diverging", "RdBu_r"),
    "most_frequent_pattern": MeasureStyle("Weight of the most frequent pattern", "log", "inferno"),
    "entropy": MeasureStyle("Entropy (bits)"),
    "relative_entropy": MeasureStyle("Relative entropy", "share"),
    "weighted_jaccard_to_initial": MeasureStyle("Weighted Jaccard to the initial state", "share", "plasma"),
    "weighted_jaccard_to_final": MeasureStyle("Weighted Jaccard to the final state", "share", "plasma"),
    "weighted_jaccard_to_previous": MeasureStyle("Weighted Jaccard to the previous checkpoint", "share", "plasma"),
    "jaccard_to_initial": MeasureStyle("Jaccard to the initial state", "share", "plasma"),
    "jaccard_to_final": MeasureStyle("Jaccard to the final state", "share", "plasma"),
    "jaccard_to_previous": MeasureStyle("Jaccard to the previous checkpoint", "share", "plasma"),
    "occupancy": MeasureStyle("Hash-list occupancy", "log", "magma"),
    "lost_patterns": MeasureStyle("Patterns lost in the hash list", "share", "magma"),
}


def measure_style(measure: str) -> MeasureStyle:
    """The style of a measure; one that is not known here is linear, and is labelled with its own name."""
    return _STYLES.get(measure, MeasureStyle(measure.replace("_", " ").capitalize()))
