"""Which network, data and layers: the arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reluscope.cli.values import parse_values, positive


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a network and data."""
    parser.add_argument(
        "--network", required=True, metavar="NAME", help="package.module:function, or a name such as resnet20"
    )
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the network's function; may be repeated",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help=".npz, .npy, a Zarr store, a folder of images or of .npy files, package.module:function, digits, cifar10",
    )
    parser.add_argument(
        "--data-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further key of a config's data section, such as resize=[32,32]; may be repeated",
    )


def configure_choice(parser: argparse.ArgumentParser) -> None:
    """The arguments that choose layers."""
    parser.add_argument("--batch-size", type=positive, default=128, metavar="N", help="images a batch; default 128")
    parser.add_argument(
        "--include", action="append", metavar="PATTERN", help="names of layers to count; all by default"
    )
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="names of layers to leave out")
    parser.add_argument("--channel-axis", type=int, metavar="AXIS", help="axis of the channels, where it is not found")
    parser.add_argument(
        "--signs", action="store_true", help="count GELU, SiLU and the like too, by their inputs' signs"
    )


def network_of(options: argparse.Namespace) -> dict[str, Any]:
    """The network section of a config."""
    arguments = parse_values("--argument", options.argument, "num_classes=10")
    if ":" in options.network:
        return {"import": options.network, "arguments": arguments}
    return {"name": options.network, **arguments}


def choice_of(options: argparse.Namespace) -> dict[str, Any]:
    """The layers section of a config."""
    given = {name: getattr(options, name) for name in ("include", "exclude", "channel_axis")}
    chosen = {name: value for name, value in given.items() if value is not None}
    return chosen | ({"signs": True} if options.signs else {})


def data_of(options: argparse.Namespace) -> dict[str, Any]:
    """The data section of a config."""
    return _data(options.data) | parse_values("--data-option", options.data_option, "resize=[32,32]")


def _data(given: str) -> dict[str, Any]:
    """The data section that a name, a path or an import path stands for."""
    from reluscope.data import DATASETS
    from reluscope.data.array_files import holds_arrays

    path = Path(given).expanduser()
    if not path.exists():
        return {"import": given} if ":" in given else {"name": given} if given in DATASETS else _missing(given)
    return {"name": "arrays" if holds_arrays(path) else "imagefolder", "path": given}


def _missing(given: str) -> dict[str, Any]:
    raise ValueError(
        f"--data: expected a path, package.module:function, digits, cifar10 or cifar100, but there is no {given!r}"
    )
