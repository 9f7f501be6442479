"""Before anything runs: what a study will cost, by figure."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from reluscope.data.spec import DataSpec, holds_integers, image_shape
from reluscope.networks import network_of
from reluscope.networks.names import DEFAULT_CLASSES
from reluscope.preactivations import LayerChoice, Site, observe
from reluscope.study import Run, Study
from reluscope.training.spec import TrainingSpec

BYTES_A_PARAMETER = 4 * 0.575
"""float32 in the weights store; the ratio measured for ResNet-20 at learning rate 0.1, where it is largest."""

BYTES_A_POSITION = 1.1
"""Of the counts store, measured for ToyNet-20 at step 0 on CIFAR-10, where nearly every pattern is distinct."""

TRAINING_PASSES = 3
"""A training step costs about three forward passes: one forward and two backward."""


@dataclass(frozen=True)
class Machine:
    """How fast a machine is, as measured with ResNet-20 in float32.

    Attributes:
        name: what the plan calls it.
        training: floating-point operations a second when training, in units of 10^12.
        counting: the same when counting.
    """

    name: str
    training: float
    counting: float


MEASURED = Machine("2 cores of an AMD EPYC (Zen 5), 2026-11-23", training=0.27, counting=0.23)
"""Training: a step of 128 images in 0.115 s; counting: 1,280 images in 0.45 s. Of a GPU, no rates are kept."""


@dataclass(frozen=True)
class Cost:
    """What some runs cost."""

    trainings: int = 0
    steps: int = 0
    checkpoints: int = 0
    weights: float = 0.0  # bytes
    counts: float = 0.0  # bytes, at most
    training: float = 0.0  # floating-point operations
    counting: float = 0.0  # floating-point operations

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def plan(study: Study, machine: Mapping[str, Any] | None = None) -> str:
    """A table of what each figure costs, and all of them together; what figures share counts once in the sum.

    Args:
        machine: name, training and counting of a `Machine`; the one that was measured by default.
    """
    chosen = Machine(**machine) if machine else MEASURED
    rows = [
        (name, [cost_of(study.runs[run], len(steps)) for run, steps in figure.steps.items()])
        for name, figure in study.figures.items()
    ]
    rows.append(("everything, once", [cost_of(run, len(run.steps)) for run in study.runs.values()]))
    header = ["", "trainings", "steps", "checkpoints", "weights", "counts, at most", "training", "counting"]
    table = [header, *([name, *_cells(sum(part, Cost()), chosen)] for name, part in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    hours = (
        f"Time on {chosen.name}: {chosen.training:g} TFLOP/s training, {chosen.counting:g} counting; measuring "
        "adds about a third of counting."
    )
    return "\n".join([f"What the study {study.name!r} costs:", *lines, hours])


def _cells(cost: Cost, machine: Machine) -> Iterable[str]:
    yield from (f"{n:,}" for n in (cost.trainings, cost.steps, cost.checkpoints))
    yield from (f"{size / 1e9:,.1f} GB" for size in (cost.weights, cost.counts))
    for operations, rate in ((cost.training, machine.training), (cost.counting, machine.counting)):
        hours = operations / rate / 1e12 / 3600
        yield f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"


def cost_of(run: Run, checkpoints: int) -> Cost:
    """What one run costs of which `checkpoints` steps are counted; files are not trained."""
    spec, images = run.spec, run.num_images
    size = _size_of(json.dumps(dict(spec.network)), spec.data, json.dumps(dict(run.layers)))
    counted = Cost(
        checkpoints=checkpoints,
        counts=size.positions * images * checkpoints * _bytes_a_position(run.one_in),
        counting=size.operations * images * checkpoints,
    )
    if not isinstance(spec, TrainingSpec):
        return counted
    timeline = spec.timeline()
    return counted + Cost(
        trainings=1,
        steps=timeline.num_steps,
        weights=size.parameters * len(spec.dumped_steps()) * BYTES_A_PARAMETER,
        training=TRAINING_PASSES * size.operations * images * timeline.epochs,
    )


def _bytes_a_position(one_in: int) -> float:
    """A sample's keys are so many times as far apart, and each takes log2 of it more bits."""
    return (BYTES_A_POSITION + math.log2(one_in) / 8) / one_in


@dataclass(frozen=True)
class _Size:
    parameters: int
    positions: int  # of one image, over all layers
    operations: int  # of the forward pass of one image


@functools.cache  # the seeds of a run have one size
def _size_of(network: str, data: DataSpec, layers: str = "{}") -> _Size:
    """Builds the network and lets an image through; one of ours without memory for values."""
    shape, spec = image_shape(data), json.loads(network)
    with torch.device("cpu" if "import" in spec else "meta"):  # others may look at values as they are built
        built = network_of(spec, shape[0], DEFAULT_CLASSES).eval()
        image = torch.zeros(1, *shape, dtype=torch.int64 if holds_integers(data) else torch.float32)
    positions: list[int] = []

    def visit(site: Site, preactivation: torch.Tensor) -> None:
        positions.append(preactivation.numel() // preactivation.shape[site.channel_axis])

    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # noqa: SIM117 - the counter must be outside
        with observe(built, visit, LayerChoice(**json.loads(layers))):
            built(image)
    return _Size(sum(p.numel() for p in built.parameters()), sum(positions), counter.get_total_flops())
