"""`reluscope count`: the patterns of one network at a few checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from reluscope.cli import layers, network
from reluscope.cli.values import threads

HELP = "count the patterns of a network at checkpoint files"

DESCRIPTION = """Count every pattern of every layer at each checkpoint, over the training images of a data set.

CHECKPOINTS are files (.pt, .pth, .ckpt, .safetensors), a folder of them, or a pattern in quotes. The store is the one
that the workflow makes for a run of files; beside it lies a manifest of the files, <output>.manifest.csv. A count that
was stopped goes on when the command is given again."""

EXAMPLES = """examples:
  reluscope count --network torchvision.models:resnet18 --argument num_classes=10 \\
      --data images.npz --output counts.zarr checkpoints/*.pt
  reluscope count --list --network torchvision.models:resnet18 --data images.npz
  reluscope count --network my_networks:encoder --data my_data:Tokens --signs --exclude "head.*" \\
      --step "epoch_(\\d+)" --output counts.zarr checkpoints
"""

_ONE_STORE = 1 << 62  # steps in a shard: all are in the first


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINTS", help="files, a folder, or a pattern in quotes")
    network.configure(parser)
    parser.add_argument("--output", type=Path, metavar="STORE", help="the counts store, ending in .zarr")
    parser.add_argument(
        "--list", action="store_true", help="list the layers instead, as `reluscope layers`; needs no checkpoints"
    )
    step = parser.add_mutually_exclusive_group()
    step.add_argument(
        "--step",
        metavar="REGEX",
        help="finds the step in a file's name; by default the number beside step, iter or epoch",
    )
    step.add_argument("--step-field", metavar="KEY", help="what holds the step in each file, such as global_step")
    network.configure_choice(parser)
    parser.add_argument("--labels", choices=("true", "shuffled"), help="count per class; shuffled: that beside it")
    parser.add_argument("--sample", metavar="1/N", help="keep this share of the patterns")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads; all that there are by default")


def run(options: argparse.Namespace) -> int:
    """Counts; the exit status."""
    if options.list:
        return layers.run(options)
    for given, name in ((options.checkpoints, "CHECKPOINTS"), (options.output, "--output")):
        if not given:
            raise ValueError(f"the following arguments are required: {name}")

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
    for finding in (*of_data(counted.spec.data), *findings(counted.spec.files)):
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
    checkpoints = {"files": options.checkpoints}
    if options.step or options.step_field:
        checkpoints["step"] = options.step or {"field": options.step_field}
    counting = {
        "batch_size": options.batch_size,
        "shard_length": _ONE_STORE,
        "sample": options.sample,
        "labels": {None: False, "true": True}.get(options.labels, options.labels),
        "layers": network.choice_of(options),
    }
    return {
        "study": "count",
        "data": network.data_of(options),
        "counting": {key: value for key, value in counting.items() if value is not None},
        "runs": {options.output.stem: {"network": network.network_of(options), "checkpoints": checkpoints}},
    }
