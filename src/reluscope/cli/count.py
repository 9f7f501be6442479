"""`reluscope count`: the patterns of one network at a few checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from reluscope.cli.values import parse_values, positive

HELP = "count the patterns of a network at checkpoint files"

DESCRIPTION = """Count every pattern of every layer at each checkpoint, over the training images of a data set.

CHECKPOINTS are files (.pt, .pth, .ckpt, .safetensors), a folder of them, or a pattern in quotes. The store is the one
that the workflow makes for a run of files; beside it lies a manifest of the files, <output>.manifest.csv. A count that
was stopped goes on when the command is given again."""

EXAMPLES = """examples:
  reluscope count --network torchvision.models:resnet18 --argument num_classes=10 \\
      --data images.npz --output counts.zarr checkpoints/*.pt
  reluscope count --network my_networks:encoder --data my_data:Tokens --signs --exclude "head.*" \\
      --step "epoch_(\\d+)" --output counts.zarr checkpoints
"""

_ONE_STORE = 1 << 62  # steps in a shard: all are in the first


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINTS", help="files, a folder, or a pattern in quotes")
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
    parser.add_argument("--output", required=True, type=Path, metavar="STORE", help="the counts store, ending in .zarr")
    step = parser.add_mutually_exclusive_group()
    step.add_argument(
        "--step",
        metavar="REGEX",
        help="finds the step in a file's name; by default the number beside step, iter or epoch",
    )
    step.add_argument("--step-field", metavar="KEY", help="what holds the step in each file, such as global_step")
    parser.add_argument("--batch-size", type=positive, default=128, metavar="N", help="images a batch; default 128")
    parser.add_argument(
        "--include", action="append", metavar="PATTERN", help="names of layers to count; all by default"
    )
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="names of layers to leave out")
    parser.add_argument("--channel-axis", type=int, metavar="AXIS", help="axis of the channels, where it is not found")
    parser.add_argument(
        "--signs", action="store_true", help="count GELU, SiLU and the like too, by their inputs' signs"
    )
    parser.add_argument("--labels", choices=("true", "shuffled"), help="count per class; shuffled: that beside it")
    parser.add_argument("--sample", metavar="1/N", help="keep this share of the patterns")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="processor threads; all that there are by default"
    )


def run(options: argparse.Namespace) -> int:
    """Counts; the exit status."""
    from reluscope import stores
    from reluscope.checkpoint_files import FilesSpec, findings, write_manifest
    from reluscope.data.findings import findings as of_data
    from reluscope.study import Study

    output = options.output
    if output.suffix != ".zarr":
        raise ValueError(f"--output: expected a name that ends in .zarr, but got {output}")
    if output.exists():
        raise stores.StoreError(f"--output: {output} is there already; choose another name, or delete it")
    manifest = output.with_suffix(".manifest.csv")  # which knows what was read before
    counted = Study.from_config(_config(options), manifest=lambda _: str(manifest)).runs[output.stem]
    assert isinstance(counted.spec, FilesSpec)
    for finding in of_data(counted.spec.data):
        print(finding, file=sys.stderr)
    for finding in findings(counted.spec.files):
        print(finding, file=sys.stderr)
    write_manifest(counted.spec.files, manifest)

    import torch  # here, because mistakes do not wait for it

    from reluscope.stages.counting import count_shard

    [shard] = counted.shards
    count_shard(counted, shard, str(manifest), str(output), threads=options.threads or torch.get_num_threads())
    print(output)
    return 0


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """The study whose one run this is."""
    arguments = parse_values("--argument", options.argument, "num_classes=10")
    network = {"name": options.network, **arguments}
    if ":" in options.network:
        network = {"import": options.network, "arguments": arguments}
    checkpoints = {"files": options.checkpoints}
    if options.step or options.step_field:
        checkpoints["step"] = options.step or {"field": options.step_field}
    layers = {name: getattr(options, name) for name in ("include", "exclude", "channel_axis")}
    counting = {
        "batch_size": options.batch_size,
        "shard_length": _ONE_STORE,
        "sample": options.sample,
        "labels": {None: False, "true": True}.get(options.labels, options.labels),
        "layers": {name: value for name, value in layers.items() if value is not None}
        | ({"signs": True} if options.signs else {}),
    }
    return {
        "study": "count",
        "data": _data(options.data) | parse_values("--data-option", options.data_option, "resize=[32,32]"),
        "counting": {key: value for key, value in counting.items() if value is not None},
        "runs": {options.output.stem: {"network": network, "checkpoints": checkpoints}},
    }


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
