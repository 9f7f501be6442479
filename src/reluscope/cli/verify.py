"""`reluscope verify`: whether stores are as they were written."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

HELP = "check stores for damage"

DESCRIPTION = """Read every chunk of the stores at or below each PATH and compare its checksum.

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
    from reluscope import verification

    paths = sorted({store for path in options.paths for store in verification.find_stores(path)})
    num_damaged = 0
    for path in paths:
        found = list(verification.damages(path, progress=True))
        num_damaged += bool(found)
        for damage in found:
            print(f"{path}: {damage}")
        if found:
            print("  to make it again, with the --configfile and --directory of its study, if it has them:")
            print(f"    rm -r {shlex.quote(str(path))} && snakemake --cores all {shlex.quote(_target(path))}")
    print(f"{len(paths):,} stores read, {num_damaged:,} damaged")
    return 1 if num_damaged else 0


def _target(path: Path) -> str:
    """What the workflow calls a store: its path from `results` on."""
    parts = path.absolute().parts
    if "results" not in parts:
        return str(path)
    return "/".join(parts[len(parts) - 1 - parts[::-1].index("results") :])
