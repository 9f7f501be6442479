"""Figures: measure series in, a Matplotlib Figure out.  One kind of figure a file; no pyplot, no global state.

Each kind is a module with a function `draw`; `KINDS` names them:

    series = {"toy": {"relative_entropy": [open_series(path) for path in seeds]}}  # run -> measure -> one series a seed
    heatmaps = reluscope.figures.find("heatmaps")
    figure = heatmaps.draw(series, runs={"toy": "ToyNet-20"}, measures=["relative_entropy"])
    reluscope.figures.save(figure, ["entropy.png", "entropy.pdf"])
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from reluscope import sources
from reluscope.hints import require_known

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "heatmaps": "reluscope.figures.heatmaps",
    "profiles": "reluscope.figures.profiles",
    "classes": "reluscope.figures.classes",
}
"""Kind of figure -> the module that draws it."""

_DOTS_PER_INCH = 300
_NO_METADATA: dict[str, dict[str, str | None]] = {  # no dates and no versions: the same figure gives the same bytes
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def source_files(kind: str) -> list[Path]:
    """The file that draws a kind of figure, then every file of the package that it imports.  Imports none of them.

    Raises:
        ValueError: the kind is none of `KINDS`.
    """
    require_known("figure kind", kind, KINDS)
    return sources.closure(sources.module_files(KINDS[kind])[0])


def parameters(kind: str) -> sources.Parameters:
    """What the drawing function of a kind of figure takes.  Imports none of them, and so not Matplotlib.

    Raises:
        ValueError: the kind is none of `KINDS`.
    """
    require_known("figure kind", kind, KINDS)
    return sources.functions(sources.module_files(KINDS[kind])[0])["draw"]


def find(kind: str) -> ModuleType:
    """The module of a kind of figure: its function `draw` gives a Matplotlib Figure.

    Raises:
        ValueError: the kind is none of `KINDS`.
    """
    require_known("figure kind", kind, KINDS)
    return importlib.import_module(KINDS[kind])


def save(figure: Figure, paths: Iterable[str | Path]) -> None:
    """Write the figure to each of `paths`, as .png (300 dots per inch) or .pdf (text stays text), reproducibly.

    Raises:
        ValueError: a path ends otherwise; nothing is written then.
    """
    import matplotlib

    targets = [Path(path) for path in paths]
    for path in targets:
        if path.suffix not in _NO_METADATA:
            raise ValueError(f"saving a figure: expected a path ending in .png or .pdf, but got {path}")
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: editable, and accepted by journals
        for path in targets:
            figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=_NO_METADATA[path.suffix])
