"""A layer's patterns by plain hooks and numpy.unique on bits packed by NumPy, for tests to hold counts against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reluscope.patterns import PatternCounts

Bits = NDArray[np.bool_]


def bits_of(tensor: Tensor, channel_axis: int = 1, threshold: float = 0.0) -> Bits:
    """[positions, channels]."""
    moved = np.moveaxis(tensor.detach().numpy(), channel_axis, -1)
    return (moved > np.float32(threshold)).reshape(-1, moved.shape[-1])


def frequencies(rows: Bits) -> dict[bytes, int]:
    distinct, counts = np.unique(np.packbits(rows, axis=1, bitorder="little"), axis=0, return_counts=True)
    return {row.tobytes(): int(count) for row, count in zip(distinct, counts, strict=True)}


def assert_counts(layer: PatternCounts, rows: Bits) -> None:
    """Counts of each pattern up to 64 channels; above, where a key is not the pattern, how often counts occur."""
    expected = frequencies(rows)
    assert layer.num_channels == rows.shape[1]
    assert layer.num_positions == len(rows)
    if layer.num_channels > 64:
        assert sorted(layer.counts.tolist()) == sorted(expected.values())
        return
    width = -(-layer.num_channels // 8)
    keys = {int(key).to_bytes(8, "little")[:width]: n for key, n in zip(layer.keys, layer.counts.tolist(), strict=True)}
    assert keys == expected


def assert_agree(layers: list[PatternCounts], expected: list[Bits]) -> None:
    assert len(layers) == len(expected)
    for layer, rows in zip(layers, expected, strict=True):
        assert_counts(layer, rows)


@contextmanager
def prepared(network: nn.Module) -> Iterator[None]:
    """Batch-norm in training mode, all else in evaluation mode, no gradients."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        yield


def hooked(network: nn.Module, kinds: tuple[type[nn.Module], ...], batches: list[Tensor], axis: int = 1) -> list[Bits]:
    """The bits of every call of modules of some kinds, in forward order."""
    passes: list[list[Bits]] = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_pre_hook(lambda _, args: passes[-1].append(bits_of(args[0], axis)))
    with prepared(network):
        for batch in batches:
            passes.append([])
            network(batch)
    return [np.concatenate(layer) for layer in zip(*passes, strict=True)]
