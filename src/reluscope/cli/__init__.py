"""The command `reluscope`: counting, measuring and drawing without a workflow, and work on stores.

One file a subcommand, with `HELP`, `DESCRIPTION`, `EXAMPLES`, `configure(parser)` and `run(options)`. What computes is
imported by `run`, so that help and mistakes in the arguments do not wait for torch, zarr or Matplotlib.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from reluscope.cli import count, info, layers, measure, plot, verify
from reluscope.hints import warnings_as_lines

_COMMANDS = {"count": count, "layers": layers, "measure": measure, "plot": plot, "info": info, "verify": verify}

BAD_INPUT = 2  # the exit status; argparse's own for arguments that it refuses


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    warnings_as_lines(lambda line: print(f"reluscope {options.command}: {line}", file=sys.stderr, flush=True))
    try:
        return _COMMANDS[options.command].run(options)
    except KeyboardInterrupt:
        print(f"reluscope {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"reluscope {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "reluscope", description="Activation patterns of ReLU networks, without a workflow."
    )
    parser.add_argument("--version", action="version", version=metadata.version("reluscope"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, command in _COMMANDS.items():
        command.configure(
            commands.add_parser(
                name,
                help=command.HELP,
                description=command.DESCRIPTION,
                epilog=command.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser
