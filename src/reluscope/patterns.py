"""What a counted activation pattern is: its key, and the counts of one layer.

NumPy only, so that measuring and drawing never import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Never

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


_SMALL_COUNT = 1 << 12  # below, what occurs equally often is told apart by a table

_AT_ONCE = 1 << 16  # patterns; what is computed of them stays in the processor's cache

MOST_CLASSES = (1 << 16) - 1
"""A class is told by 16 bits."""


def class_dtype(num_classes: int) -> np.dtype:
    """The narrower of uint8 and uint16 that holds a class, and how many there are."""
    return np.dtype(np.uint8 if num_classes < 1 << 8 else np.uint16)


def entropy_of(counts: NDArray[np.integer]) -> float:
    """Entropy in bits of what occurs so often; a probability is a count, at least 1, over their sum; NaN of none."""
    # log2(1 / p) rather than -log2(p): every term is positive, and one single pattern gives 0.0, not -0.0.
    # Most counts are small, and few differ: equal ones are taken together.
    total = int(counts.sum(dtype=np.int64))
    if total == 0:
        return float("nan")
    times = np.zeros(_SMALL_COUNT, np.int64)
    for start in range(0, len(counts), _AT_ONCE):
        part = np.minimum(counts[start : start + _AT_ONCE].astype(np.int64), _SMALL_COUNT)
        times += np.bincount(part, minlength=_SMALL_COUNT)[:_SMALL_COUNT]
    large = np.sort(counts[counts >= _SMALL_COUNT]).astype(np.int64)  # the same sum in any order
    small = np.flatnonzero(times)
    values, times = np.concatenate([small, large]), np.concatenate([times[small], np.ones_like(large)])
    return float((times * values * np.log2(total / values)).sum() / total)


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How often each pattern of a layer occurs in the images of each class, where it does: a sparse matrix by rows.

    Attributes:
        num_classes: classes, those without images included.
        num_classes_of: in how many classes each pattern occurs, at least 1; uint8 or uint16 (`class_dtype`).
            Shape [distinct].
        index: these classes, ascending for each pattern, one pattern after the other; of the same dtype. Shape [pair].
        counts: how often the pattern occurs there, at least 1; integers. Shape [pair].
    """

    num_classes: int
    num_classes_of: NDArray[np.unsignedinteger]
    index: NDArray[np.unsignedinteger]
    counts: NDArray[np.integer]

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Where each pattern's pairs begin and end, int64, shape [distinct + 1]."""
        return np.concatenate([[0], np.cumsum(self.num_classes_of, dtype=np.int64)])

    @property
    def totals(self) -> NDArray[np.int64]:
        """How often each pattern occurs in all classes together, shape [distinct]."""
        return np.add.reduceat(self.counts, self.indptr[:-1], dtype=np.int64)

    @property
    def num_positions(self) -> NDArray[np.int64]:
        """Positions of each class's images, shape [num_classes]."""
        return np.bincount(self.index, weights=self.counts, minlength=self.num_classes).astype(np.int64)


class SampledError(ValueError):
    """Every pattern is asked for, but only a sample is kept."""


@dataclass(frozen=True, eq=False)
class PatternCounts:
    """Every pattern that one layer showed at one step, and how often.

    Attributes:
        layer_name: the layer's readable name, the path of its module or of the module that calls the function.
        keys: the distinct patterns, strictly ascending; uint16, uint32 or uint64 (`key_dtype`). Shape [distinct].
        counts: how often each occurs, at least 1. int64, shape [distinct].
        num_channels: channels of the layer.
        height, width: positions of one image; 1 and 1 where the pre-activation is [n, features], tokens and 1 where it
            is a sequence; 0 and 0 where positions do not lie image by image, or are not as many for each.
        channel_axis: the axis of the pre-activation that held the channels, from 0.
        bit: what it means that a bit is 1, in words: ``"input of ReLU > 0"``, ``"sign of the input of GELU"``.
        classes: how often each occurs in each class, where labels were counted and these counts asked for; else None.
        shuffled_joint_entropy: of the patterns and labels that were shuffled over the images, in bits; None where
            none were.
        num_nan: how many of the layer's pre-activations, positions x channels of all images, were NaN: their bits are
            0, and say nothing of the network. None in a store that was made when they were not counted.
    """

    layer_name: str
    keys: NDArray[np.unsignedinteger]
    counts: NDArray[np.int64]
    num_channels: int
    height: int = 1
    width: int = 1
    channel_axis: int = 1
    bit: str = "input > 0"
    classes: ClassCounts | None = field(default=None, kw_only=True)
    shuffled_joint_entropy: float | None = field(default=None, kw_only=True)
    num_nan: int | None = field(default=0, kw_only=True)

    one_in: ClassVar[int] = 1  # all of pattern space is kept

    @property
    def sample(self) -> PatternCounts:
        """The patterns that are kept: all."""
        return self

    @property
    def num_positions(self) -> int:
        """Positions counted: the sum of the counts; images x height x width where these are known."""
        return int(self.narrow_counts.sum(dtype=np.int64))

    @property
    def num_distinct(self) -> int:
        """Distinct patterns."""
        return len(self.counts)

    @property
    def narrow_counts(self) -> NDArray[np.integer]:
        """The counts in whatever type they are held, unsigned where they come from a store: faster, to be summed and
        compared only."""
        return self.counts

    @property
    def largest_count(self) -> int:
        """How often the most frequent pattern occurs."""
        return int(self.narrow_counts.max(initial=0))

    @property
    def entropy(self) -> float:
        """Entropy of the observed patterns in bits; a pattern's probability is its count over the positions."""
        return entropy_of(self.narrow_counts)

    def of_class(self, label: int) -> PatternCounts:
        """The patterns of one class's images; `num_nan` stays that of all images.

        Raises:
            ValueError: there are no counts per class, or no such class.
        """
        if self.classes is None:
            raise ValueError(f"of_class: layer {self.layer_name!r} has no counts per class; count with labels")
        if not 0 <= label < self.classes.num_classes:
            raise ValueError(f"of_class: expected a class from 0 to {self.classes.num_classes - 1}, but got {label}")
        here = self.classes.index == label
        keys = np.repeat(self.keys, self.classes.num_classes_of)[here]
        counts = self.classes.counts[here].astype(np.int64)
        return replace(self, keys=keys, counts=counts, classes=None, shuffled_joint_entropy=None)

    @property
    def key_kind(self) -> KeyKind:
        """``"bits"``: exact; ``"xor64"``: collision-bounded (see `channel_words`)."""
        return key_kind(self.num_channels)

    @property
    def expected_collisions(self) -> float:
        """Pairs of the layer's patterns that are expected to have been counted as one; 0 where keys are exact."""
        return expected_collisions(self.num_distinct, self.num_channels)

    def sampled(self, one_in: int) -> SampledCounts:
        """Keep 1 / one_in of pattern space (`is_sampled`), and the exact numbers of all of it.

        Raises:
            ValueError: `one_in` is not at least 2.
        """
        kept = is_sampled(self.keys, one_in)
        sample = replace(
            self, keys=self.keys[kept], counts=self.counts[kept], classes=None, shuffled_joint_entropy=None
        )
        of_all = self.num_positions, self.num_distinct, self.largest_count, self.entropy
        return SampledCounts(sample, one_in, *of_all, num_nan=self.num_nan)

    def __repr__(self) -> str:
        return (
            f"PatternCounts({self.layer_name!r}: {self.num_distinct:,} distinct patterns at {self.num_positions:,} "
            f"positions, {self.num_channels} channels, {self.height} x {self.width})"
        )


@dataclass(frozen=True, eq=False)
class SampledCounts:
    """A sample of the patterns that one layer showed at one step, and exact numbers of all of them.

    Whether a pattern is in the sample hangs on its key alone (`is_sampled`), so that samples of different steps can be
    compared. There are no `keys` and `counts` of all patterns: who asks for them is told so.

    Attributes:
        sample: the patterns that are kept, with their full counts.
        one_in: the sample is 1 / one_in of pattern space.
        num_positions: positions counted, of all patterns.
        num_distinct: distinct patterns, in the sample or not.
        largest_count: how often the most frequent pattern occurs, in the sample or not.
        entropy: of all patterns, in bits.
        num_nan: of all pre-activations of the layer, those that were NaN; as that of `PatternCounts`.
    """

    sample: PatternCounts
    one_in: int
    num_positions: int
    num_distinct: int
    largest_count: int
    entropy: float
    num_nan: int | None = field(default=0, kw_only=True)

    @property
    def layer_name(self) -> str:
        return self.sample.layer_name

    @property
    def num_channels(self) -> int:
        return self.sample.num_channels

    @property
    def height(self) -> int:
        return self.sample.height

    @property
    def width(self) -> int:
        return self.sample.width

    @property
    def channel_axis(self) -> int:
        return self.sample.channel_axis

    @property
    def bit(self) -> str:
        return self.sample.bit

    @property
    def key_kind(self) -> KeyKind:
        return self.sample.key_kind

    @property
    def expected_collisions(self) -> float:
        """Pairs of all patterns that are expected to have been counted as one; 0 where keys are exact."""
        return expected_collisions(self.num_distinct, self.num_channels)

    @property
    def keys(self) -> Never:
        """Not known of all patterns.  Raises SampledError."""
        raise SampledError("keys: only a sample of the patterns is kept (`sample`)")

    @property
    def counts(self) -> Never:
        """Not known of all patterns.  Raises SampledError."""
        raise SampledError("counts: only a sample of the patterns is kept (`sample`)")

    def __repr__(self) -> str:
        return (
            f"SampledCounts({self.layer_name!r}: {self.sample.num_distinct:,} of {self.num_distinct:,} distinct "
            f"patterns at {self.num_positions:,} positions, {self.num_channels} channels, {self.height} x {self.width})"
        )


Counts = PatternCounts | SampledCounts
"""What a measure takes that stands a sample, because it asks for no `keys` and `counts` of all patterns."""


_FEW_LAYERS = 3  # named in one line


def nan_told(layers: Iterable[Counts]) -> str | None:
    """One line on the layers that have pre-activations that are NaN; None where there are none."""
    found = [f"{counts.layer_name} ({counts.num_nan:,})" for counts in layers if counts.num_nan]
    if not found:
        return None
    more = f" and {len(found) - _FEW_LAYERS} more" if len(found) > _FEW_LAYERS else ""
    named = f"layer{'s' if len(found) > 1 else ''} {', '.join(found[:_FEW_LAYERS])}{more}"
    return f"pre-activations are NaN in {named}: their bits are 0, and say nothing of the network"


def sample_share(one_in: int) -> str:
    """A sample's share of pattern space as text: ``"1/16"``."""
    return f"1/{one_in}"


def parse_sample(share: str) -> int:
    """16 for ``"1/16"``.

    Raises:
        ValueError: the text is not 1/n with a whole number n of at least 2.
    """
    if (match := re.fullmatch(r"1/([1-9][0-9]{0,5})", share)) is None or share == "1/1":
        raise ValueError(f"expected 1/n with a whole number n from 2 to 999999, as in 1/16, got {share!r}")
    return int(match[1])


_GAMMA, _MIX_1, _MIX_2 = (np.uint64(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def is_sampled(keys: NDArray[np.unsignedinteger], one_in: int) -> NDArray[np.bool_]:
    """Which patterns a sample of 1 / one_in of pattern space keeps: those whose hash is below 2**64 / one_in.

    The hash is SplitMix64's first output where the key, taken as 64 bits, is the seed (Steele, Lea & Flood 2014, "Fast
    splittable pseudorandom number generators"): one to one, and every bit of the key turns each of its bits about half
    of the time. It knows of no step, layer, run or machine; a smaller sample is part of a larger one.  Shape [keys].

    Raises:
        ValueError: `one_in` is not at least 2.
    """
    if one_in < 2:
        raise ValueError(f"one_in: expected at least 2, got {one_in}")
    limit = np.uint64((1 << 64) // one_in)
    kept = np.empty(len(keys), np.bool_)
    for start in range(0, len(keys), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        word = keys[here].astype(np.uint64)
        word += _GAMMA
        word ^= word >> np.uint64(30)
        word *= _MIX_1
        word ^= word >> np.uint64(27)
        word *= _MIX_2
        word ^= word >> np.uint64(31)
        np.less(word, limit, out=kept[here])
    return kept
