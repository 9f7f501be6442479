"""How each measure looks in a figure, and the sizes that all figures share."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FONT_SIZE = 7.0
"""Points, for titles and labels. Figures are drawn at print size."""

TICK_SIZE = 6.0
"""Points, for tick labels: the smallest type in a figure."""

MISSING_COLOR = "0.85"
"""Light grey, where a measure is undefined (NaN)."""

CHARACTER = 0.56
"""Mean width of a character over the font size."""

WIDEST = 10.7
"""Inches, of a figure with many columns: landscape A4."""

_BOLD_CHARACTER = 0.7
_WIDTHS = ((1, 3.35), (6, 7.1))  # up to so many columns, inches: one column of text, two

Norm = Literal["linear", "log", "share", "diverging"]


@dataclass(frozen=True)
class MeasureStyle:
    """How one measure is drawn.

    Attributes:
        label: what the colour bar or the axis says.
        norm: how values map to colours: "linear"; "log" for ranges over decades; "share" is linear and keeps within
            0 and 1; "diverging" is symmetric about 0.
        colormap: a Matplotlib colour map: perceptually uniform, or of two colours that part at white for "diverging".
        scale_of: the measure whose colour scale it shares where both are drawn, because they are to be compared.
    """

    label: str
    norm: Norm = "linear"
    colormap: str = "viridis"
    scale_of: str | None = None


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
    "joint_entropy": MeasureStyle("Entropy of pattern and class (bits)"),
    "conditional_entropy": MeasureStyle("Entropy given the class (bits)"),
    "mutual_information": MeasureStyle("Information on the class (bits)"),
    "mutual_information_share": MeasureStyle("Information on the class, share", "share"),
    "mutual_information_of_shuffled_labels": MeasureStyle(
        "Information on shuffled labels (bits)", scale_of="mutual_information"
    ),
    "entropy_of_each_class": MeasureStyle("Entropy of the class (bits)"),
    "patterns_of_one_class": MeasureStyle("Patterns of one class only", "share", "magma"),
    "weighted_jaccard_to_other_classes": MeasureStyle("Weighted Jaccard to the other classes", "share", "plasma"),
    "weighted_jaccard_between_classes": MeasureStyle("Weighted Jaccard between classes", "share", "plasma"),
    "occupancy": MeasureStyle("Hash-list occupancy", "log", "magma"),
    "lost_patterns": MeasureStyle("Patterns lost in the hash list", "share", "magma"),
}


def measure_style(measure: str) -> MeasureStyle:
    """The style of a measure; one that is not known here is linear, and is labelled with its own name."""
    return _STYLES.get(measure, MeasureStyle(measure.replace("_", " ").capitalize()))


def figure_width(columns: int) -> float:
    """Inches, for so many columns of panels."""
    return next((width for most, width in _WIDTHS if columns <= most), WIDEST)


def literal(text: Text) -> None:
    """Draw a text as it is written, where Matplotlib would take what stands between dollars for mathematics."""
    text.set_parse_math(False)


def wrap_bold(text: str, inches: float, font_size: float) -> str:
    """Break bold `text` into lines that fit the width."""
    fitting = max(int(inches * 72 / (_BOLD_CHARACTER * font_size)), 8)
    return textwrap.fill(text, fitting, break_on_hyphens=False, break_long_words=False)


def thin_frame(axes: Axes) -> None:
    """Thin spines, short ticks and small tick labels."""
    axes.tick_params(labelsize=TICK_SIZE, length=2, width=0.5, pad=1.5)
    axes.spines[:].set_linewidth(0.5)


def finish(figure: Figure, title: str | None) -> None:
    """Put `title` above the whole figure, and arrange it for good.

    Arranging again, as each save would, shifts it a little and changes the saved bytes.
    """
    if title is not None:
        literal(figure.suptitle(title, fontsize=FONT_SIZE + 1))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
