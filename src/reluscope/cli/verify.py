"""`reluscope verify`: whether stores are as they were written."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

from reluscope.paths import in_workflow

HELP = "check stores for damage"

DESCRIPTION = """Read every file of the stores at or below each PATH: whole, and the one written under its name.

Prints what is damaged and which command makes it again. Exits with 0 if all is sound, 1 if something is damaged, 2 if
there is nothing to verify."""

EXAMPLES = """examples:
  reluscope verify results
  reluscope verify results/runs/resnet20-seed0/weights.zarr
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a store, or a folder with stores below it")


def run(options: argparse.Namespace) -> int:
    """Reads the stores; the exit status."""
    from tqdm import tqdm

    from reluscope import verification
    from reluscope.imports import in_one_line
    from reluscope.placement import is_stray

    paths = sorted({store for path in options.paths for store in verification.find_stores(path)})
    num_damaged, unknown = 0, []
    for path in paths:
        found = []
        try:
            for damage in verification.damages(path, progress=True):
                tqdm.write(f"{path}: {damage}")  # now, whatever comes after it
                found.append(damage)
        except Exception as error:  # there is no end to how a store may be damaged, and others are to be read
            found.append(f"cannot be looked at any further ({in_one_line(error)})")
            tqdm.write(f"{path}: {found[-1]}")
        num_damaged += bool(found)
        if found:
            print("\n".join(_advice(path, strays_only=all(map(is_stray, found)))))
        if not verification.is_placement_known(path):
            unknown.append(path)
    print(f"{len(paths):,} stores read, {num_damaged:,} damaged")
    if unknown:
        print(
            f"of {len(unknown):,}, made before stores kept a manifest ({unknown[0]}), it is not known whether every "
            "file lies at its own place"
        )
    return 1 if num_damaged else 0


def _advice(path: Path, *, strays_only: bool) -> Iterator[str]:
    """What to do about a damaged store."""
    store, target = shlex.quote(str(path)), in_workflow(path)
    if strays_only:
        yield "  delete what does not belong to it"
    elif target is None:
        yield f"  no workflow made it: put a copy in its place, or delete it (rm -r {store}) and make it again"
    else:
        yield "  to make it again, with the --configfile and --directory of its study, if it has them:"
        yield f"    rm -r {store} && snakemake --cores all {shlex.quote(target)}"
