"""`reluscope plot`: heatmaps of measure stores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reluscope.series import MeasureSeries

HELP = "draw measures over layers and time"

DESCRIPTION = """Draw heatmaps of measure stores: training time on x, layer on y, the first layer at the bottom.

Every run is a column of the picture and every measure a row, in the order given. Stores belong to one run if the
workflow made them for one, or if they lie in one folder and are named after their measures. A picture that is there
already is replaced."""

EXAMPLES = """examples:
  reluscope plot entropy.zarr --output entropy.png
  reluscope plot results/runs/{toynet20,resnet20}-seed0/measures/{relative_entropy,distinct_patterns}.zarr \\
      --time step --scale symlog --title "Two networks" --output two.png two.pdf
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("stores", nargs="+", metavar="MEASURE", help="a measure store")
    parser.add_argument("--output", nargs="+", required=True, metavar="FILE", help=".png or .pdf, or both")
    parser.add_argument("--time", choices=["epoch", "step"], help="what x shows (default: epoch where it is known)")
    parser.add_argument(
        "--scale", choices=["linear", "symlog"], default="linear", help="of x; symlog shows the first steps best"
    )
    parser.add_argument("--measures-as", choices=["rows", "columns"], default="rows", help="default: rows")
    parser.add_argument("--title", help="above the whole picture")


def run(options: argparse.Namespace) -> int:
    """Draws the picture; the exit status."""
    import numpy as np

    from reluscope import figures

    series = _by_run([Path(path) for path in options.stores])
    measures = list(dict.fromkeys(name for run in series.values() for name in run))
    for run, known in series.items():
        if missing := [name for name in measures if name not in known]:
            raise ValueError(
                f"{run}: no store of {', '.join(missing)}, but other runs have one; give the same measures of every run"
            )
    if per_class := [one.measure for run in series.values() for one in run.values() if one.class_name is not None]:
        raise ValueError(
            f"{per_class[0]}: has a value a class, which a heatmap of layer and time cannot show; "
            "a figure of kind classes in a config does"
        )
    has_epochs = all(np.isfinite(one.epoch).all() for run in series.values() for one in run.values())
    if options.time == "epoch" and not has_epochs:
        raise ValueError("--time: expected step, because not all stores know their epochs")
    drawn = figures.find("heatmaps").draw(
        {run: {name: [one] for name, one in known.items()} for run, known in series.items()},
        runs={run: run for run in series},
        measures=measures,
        measures_as=options.measures_as,
        time=options.time or ("epoch" if has_epochs else "step"),
        scale=options.scale,
        title=options.title,
    )
    figures.save(drawn, options.output)
    print(*options.output, sep="\n")
    return 0


def _by_run(paths: list[Path]) -> dict[str, dict[str, MeasureSeries]]:
    """Series by run and measure, in the order given."""
    from reluscope import stores
    from reluscope.data.digest import ATTRIBUTE, require_same_data
    from reluscope.series import open_series

    found: dict[str, dict[str, MeasureSeries]] = {}
    attributes: dict[str, dict[str, dict[str, Any]]] = {}
    for path in paths:
        one = open_series(path)
        described = stores.attributes_of(path, "measure")
        run = described.get("run") or _run_of(path, one.measure)
        attributes.setdefault(run, {})[str(path)] = described
        if one.measure in found.setdefault(run, {}):
            raise ValueError(
                f"{path}: expected each measure of a run once, but {one.measure} of {run} was given before"
            )
        found[run][one.measure] = one
    for of_run in attributes.values():
        require_same_data(of_run)
    told = {run: one[ATTRIBUTE] for run, of_run in attributes.items() for one in of_run.values() if ATTRIBUTE in one}
    if len(set(told.values())) > 1:
        print(f"{', '.join(told)}: not all were made of the same training images", file=sys.stderr)
    return found


def _run_of(path: Path, measure: str) -> str:
    """What to call a run that has no name: the store's own, or its folder's where the store is named as its measure."""
    return path.absolute().parent.name if path.stem == measure else path.stem
