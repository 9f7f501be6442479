"""What a counted activation pattern is: its key, and the counts of one layer.

NumPy only, so that measuring and drawing never import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

KeyKind = Literal["bits", "xor64"]

EXACT_CHANNELS = 64
"""Up to so many channels a key holds the pattern itself, bit for bit."""

_XOR_SEED = 0x52454C55  # any fixed number: the words of channels 64 and above are drawn from it, once and for all


def key_kind(num_channels: int) -> KeyKind:
    """How the keys of a layer are made: ``"bits"`` up to 64 channels, ``"xor64"`` above (see `channel_words`)."""
    return "bits" if num_channels <= EXACT_CHANNELS else "xor64"


def key_dtype(num_channels: int) -> np.dtype:
    """The narrowest of uint16, uint32 and uint64 that holds a key of `num_channels` channels."""
    if num_channels < 1:
        raise ValueError(f"num_channels: expected at least 1, got {num_channels}")
    return np.dtype(np.uint16 if num_channels <= 16 else np.uint32 if num_channels <= 32 else np.uint64)


def channel_words(num_channels: int) -> NDArray[np.uint64]:
    """One 64-bit word a channel; a pattern's key is the XOR of the words of its active channels.  Shape [num_channels].

    Channels 0 to 63 own one bit each (channel c the bit c), so up to 64 channels the key is the pattern itself.
    Channels from 64 on own a fixed random word. Two different patterns that agree on those never share a key; any
    other two share one with probability 2**-64, so n distinct patterns are expected to lose n * (n - 1) / 2**65 to
    collisions: 4e-6 for the 12.8 million positions of a 16 x 16 layer over 50,000 images.
    """
    words = np.left_shift(np.uint64(1), np.arange(min(num_channels, EXACT_CHANNELS), dtype=np.uint64))
    random = np.random.PCG64(_XOR_SEED).random_raw(max(num_channels - EXACT_CHANNELS, 0)).astype(np.uint64)
    return np.concatenate([words, random])


def expected_collisions(num_distinct: int, num_channels: int, key_bits: int = 64) -> float:
    """Pairs of patterns that are expected to share a key, at most: 0 up to 64 channels (see `channel_words`).

    Above, each pair of n distinct patterns does so with probability 2**-key_bits: n * (n - 1) / 2 pairs.
    """
    if num_channels <= EXACT_CHANNELS:
        return 0.0
    return num_distinct * (num_distinct - 1) / 2 / 2.0**key_bits


@dataclass(frozen=True, eq=False)
class PatternCounts:
    """Every pattern that one layer showed at one step, and how often.

    Attributes:
        layer_name: the layer's readable name, its module path.
        keys: the distinct patterns, strictly ascending; uint16, uint32 or uint64 (`key_dtype`). Shape [distinct].
        counts: how often each occurs, at least 1. int64, shape [distinct].
        num_channels: channels of the layer.
        height, width: positions of one image; 1 and 1 where the pre-activation is [n, features].
    """

    layer_name: str
    keys: NDArray[np.unsignedinteger]
    counts: NDArray[np.int64]
    num_channels: int
    height: int = 1
    width: int = 1

    @property
    def num_positions(self) -> int:
        """Positions counted: images x height x width, the sum of the counts."""
        return int(self.counts.sum())

    @property
    def key_kind(self) -> KeyKind:
        """``"bits"``: exact; ``"xor64"``: collision-bounded (see `channel_words`)."""
        return key_kind(self.num_channels)

    @property
    def expected_collisions(self) -> float:
        """Pairs of the layer's patterns that are expected to have been counted as one; 0 where keys are exact."""
        return expected_collisions(len(self.keys), self.num_channels)

    def __repr__(self) -> str:
        return (
            f"PatternCounts({self.layer_name!r}: {len(self.keys):,} distinct patterns at {self.num_positions:,} "
            f"positions, {self.num_channels} channels, {self.height} x {self.width})"
        )
