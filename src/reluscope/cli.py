"""The command `reluscope`: what works on stores without a workflow."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from reluscope import stores, verification

_VERIFY = """Read every chunk of the stores at or below each PATH and compare its checksum.

Prints what is damaged and which command makes it again. Exits with 0 if all is sound, 1 if something is damaged, 2 if
there is nothing to verify."""

_EXAMPLES = """examples:
  reluscope verify results
  reluscope verify results/runs/resnet20-seed0/weights.zarr
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        paths = sorted({store for path in options.paths for store in verification.find_stores(path)})
    except stores.StoreError as error:
        print(f"reluscope verify: {error}", file=sys.stderr)
        return 2
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("reluscope", description="Work on the stores of reluscope.")
    parser.add_argument("--version", action="version", version=metadata.version("reluscope"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    verify = commands.add_parser(
        "verify",
        help="check stores for damage",
        description=_VERIFY,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("paths", nargs="+", metavar="PATH", help="a store, or a folder with stores below it")
    return parser
