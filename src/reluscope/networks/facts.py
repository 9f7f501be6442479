"""What is known of the networks of this package without building them.  Free of torch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from reluscope.networks.names import NetworkSpec, resolve_network

_FIRST_WIDTH, _ADDED = 16, 84  # PyramidNet's


class Layer(NamedTuple):
    """A counted layer: its name, its channels, and how often the sides of images were halved before it."""

    name: str
    channels: int
    halvings: int


def layers(network: Mapping[str, Any]) -> list[Layer] | None:
    """The layers of a network in forward order; None of an imported one.

    Args:
        network: as `network_from_config` returns it.
    """
    return None if "import" in network else _layers(resolve_network(**network))


@functools.cache  # studies ask for each of their runs
def _layers(spec: NetworkSpec) -> list[Layer]:
    found = [Layer("first_activation", spec.widths[0], 0)] if spec.family == "fixup_resnet" else []
    for number, (width, out_width) in enumerate(_blocks(spec)):
        stage, block = divmod(number, spec.blocks_per_stage)
        name, before = f"stage{stage + 1}.block{block}.activation", stage - (stage > 0 and block == 0)
        match spec.family:
            case "pyramidnet":
                found += [Layer(name, out_width, stage)]
            case "fixup_resnet":
                found += [Layer(f"{name}{i}", out_width, stage) for i in (1, 2)]
            case _:
                found += [Layer(f"{name}1", width, before), Layer(f"{name}2", out_width, stage)]
    return found if spec.family == "fixup_resnet" else [*found, Layer("activation", found[-1].channels, 2)]


def num_weights(network: Mapping[str, Any], in_channels: int) -> int:
    """Weights of all convolutions, which are nearly all parameters; 0 of an imported network, where it is not known."""
    if "import" in network:
        return 0
    blocks = _blocks(resolve_network(**network))
    return 9 * (in_channels * blocks[0][0] + sum(width * after + after**2 for width, after in blocks))


def _blocks(spec: NetworkSpec) -> list[tuple[int, int]]:
    """Channels before and after each block."""
    per_stage = spec.blocks_per_stage
    if spec.widths:
        widths = [spec.widths[0], *(width for width in spec.widths for _ in range(per_stage))]
    else:  # PyramidNet's, which grow block by block
        widths = [round(_FIRST_WIDTH + _ADDED * k / (3 * per_stage)) for k in range(3 * per_stage + 1)]
    return list(itertools.pairwise(widths))
