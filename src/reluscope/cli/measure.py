"""`reluscope measure`: measures of counts stores, over time and layers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reluscope.cli.values import parse_values

HELP = "compute measures of counts"

DESCRIPTION = """Compute one or more measures at every counted step and layer of a run.

COUNTS are the counts stores of one run: one, or all of its shards. With one measure, --output may name the store, which
ends in .zarr; otherwise it names a folder, and each measure becomes <folder>/<measure>.zarr in it. The stores are those
that the workflow makes."""

EXAMPLES = """examples:
  reluscope measure --list
  reluscope measure counts.zarr --measure entropy --output entropy.zarr
  reluscope measure results/runs/resnet20-seed0/counts/*.zarr \\
      --measure occupancy weighted_jaccard_to_final --option slots=500000 --output measures
"""


class _List(argparse.Action):
    """Prints the measures and ends the command, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from reluscope import measures

        try:
            found = [measures.find(name) for name in measures.names()]
        except ValueError as error:  # of a measure that somebody writes
            parser.exit(2, f"{parser.prog}: {error}\n")
        width = max(len(measure.name) for measure in found) + 2
        for measure in found:
            options = "".join(f"  [{name}={default}]" for name, default in measure.options.items())
            print(f"{measure.name:{width}}{measure.summary}{options}")
        parser.exit()


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("counts", nargs="+", metavar="COUNTS", help="counts stores of one run")
    parser.add_argument("--measure", nargs="+", required=True, metavar="NAME", help="what to compute", dest="measures")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the measures that have it, as in a config; may be given again",
        dest="options",
    )
    parser.add_argument(
        "--keep-nan",
        action="store_true",
        help="measure layers also where pre-activations were NaN; otherwise their measures are NaN there",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="PATH", help="a store (.zarr), or a folder")
    parser.add_argument("--list", action=_List, nargs=0, help="list the measures with their options, and exit")


def run(options: argparse.Namespace) -> int:
    """Computes the measures; the exit status."""
    from reluscope import measures, stores
    from reluscope.counts import open_counts
    from reluscope.stages.measuring import measure_run
    from reluscope.study import MeasureSpec

    given = _options_of(options.measures, parse_values("--option", options.options, "slots=500000"))
    counts = open_counts(*options.counts)
    for name in given if counts.one_in > 1 else []:
        try:
            measures.check_sample(name, given[name])
        except ValueError as error:
            raise ValueError(f"--measure {name}: {error}") from error
    outputs = _outputs(options.output, list(given))
    for output in outputs.values():
        if output.exists():
            raise stores.StoreError(f"--output: {output} is there already; choose another name, or delete it")
    wanted = {
        str(output): MeasureSpec(name, given[name], counts.steps, options.keep_nan) for name, output in outputs.items()
    }
    measure_run(wanted, options.counts, progress=True)
    print(*wanted, sep="\n")
    return 0


def _options_of(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each measure's share of the options.  Every one must be some measure's."""
    from reluscope import measures
    from reluscope.hints import did_you_mean

    known = {name: measures.find(name).options for name in names}
    for option in options:
        if not any(option in own for own in known.values()):
            allowed = sorted({name for own in known.values() for name in own})
            raise ValueError(f"--option: {' and '.join(known)} without {option!r}{did_you_mean(option, allowed)}")
    given = {name: {o: value for o, value in options.items() if o in own} for name, own in known.items()}
    for name, chosen in given.items():
        measures.check_options(name, chosen)
    return given


def _outputs(output: Path, names: Sequence[str]) -> dict[str, Path]:
    if output.suffix != ".zarr":
        return {name: output / f"{name}.zarr" for name in names}
    if len(names) > 1:
        raise ValueError(f"--output: expected a folder for {len(names)} measures, but got the store {output}")
    return {names[0]: output}
