"""Samples of pattern space: which patterns they hold, and what stays known of all."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope.patterns import PatternCounts, SampledError, is_sampled, parse_sample, sample_share

WORDS = {  # SplitMix64's first words for the seed 1234567, as published (Vigna's splitmix64.c; Rosetta Code)
    0: 6457827717110365317,
    1: 3203168211198807973,
    2: 9817491932198370423,
    3: 4593380528125082431,
    4: 16408922859458223821,
}


@pytest.mark.parametrize(("position", "word"), WORDS.items())
def test_the_hash_is_splitmix64(position: int, word: int) -> None:
    """The word at a position is the first one of a seed so many times the golden gamma further."""
    key = np.array([(1234567 + position * 0x9E3779B97F4A7C15) % 2**64], np.uint64)
    largest = 2**64 // word  # the last share 1/n that holds it
    for one_in in range(2, largest + 3):
        assert is_sampled(key, one_in).tolist() == [one_in <= largest]


KEYS = {
    "counting up": np.arange(1 << 16, dtype=np.uint64),
    "in the upper bits only": np.arange(1 << 16, dtype=np.uint64) << np.uint64(48),
    "one or two bits": np.array(sorted({1 << i | 1 << j for i in range(64) for j in range(64)}), np.uint64),
    "random": np.random.default_rng(0).integers(0, 2**64, 1 << 17, dtype=np.uint64),
}


@pytest.mark.parametrize("one_in", [2, 16, 100])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_about_one_in_n_patterns_is_kept_whatever_they_look_like(keys: np.ndarray, one_in: int) -> None:
    expected, deviation = len(keys) / one_in, np.sqrt(len(keys) / one_in * (1 - 1 / one_in))
    assert abs(is_sampled(keys, one_in).sum() - expected) < 4 * deviation


def test_only_the_key_decides() -> None:
    """Not its width, nor the patterns beside it; and a smaller sample is part of a larger one."""
    keys = np.arange(1 << 16)
    kept = is_sampled(keys.astype(np.uint16), 16)
    np.testing.assert_array_equal(is_sampled(keys.astype(np.uint32), 16), kept)
    np.testing.assert_array_equal(is_sampled(keys.astype(np.uint64), 16), kept)
    np.testing.assert_array_equal(is_sampled(keys.astype(np.uint16)[::3], 16), kept[::3])
    longer = np.concatenate([keys, keys]).astype(np.uint64)
    np.testing.assert_array_equal(is_sampled(longer, 16), np.tile(kept, 2))
    assert not (is_sampled(keys.astype(np.uint16), 32) & ~kept).any()


def test_what_is_known_of_all_patterns_is_that_of_the_full_count() -> None:
    random = np.random.default_rng(1)
    keys, number = np.unique(random.geometric(0.001, 100_000).astype(np.uint32), return_counts=True)
    full = PatternCounts("relu", keys, number, 20, 8, 4)
    sampled = full.sampled(16)
    for name in ("num_positions", "num_distinct", "largest_count", "entropy", "expected_collisions", "key_kind"):
        assert getattr(sampled, name) == getattr(full, name), name
    assert (sampled.layer_name, sampled.num_channels, sampled.height, sampled.width) == ("relu", 20, 8, 4)
    kept = dict(zip(sampled.sample.keys.tolist(), sampled.sample.counts.tolist(), strict=True))
    everything = dict(zip(keys.tolist(), number.tolist(), strict=True))
    assert kept == {key: everything[key] for key in keys[is_sampled(keys, 16)].tolist()}
    assert 0 < len(kept) < len(everything) / 8


@pytest.mark.parametrize("name", ["keys", "counts"])
def test_the_patterns_of_a_sample_are_never_taken_for_all(name: str) -> None:
    sampled = PatternCounts("relu", np.arange(9, dtype=np.uint16), np.ones(9, np.int64), 4).sampled(2)
    with pytest.raises(SampledError, match=rf"^{name}: only a sample of the patterns is kept \(`sample`\)$"):
        getattr(sampled, name)


@pytest.mark.parametrize("one_in", [1, 0, -4])
def test_a_sample_is_a_part(one_in: int) -> None:
    with pytest.raises(ValueError, match=f"one_in: expected at least 2, got {one_in}"):
        PatternCounts("relu", np.arange(9, dtype=np.uint16), np.ones(9, np.int64), 4).sampled(one_in)


def test_shares_are_read_as_they_are_written() -> None:
    assert parse_sample("1/16") == 16
    assert sample_share(parse_sample("1/1000")) == "1/1000"


@pytest.mark.parametrize(
    "share", ["", "16", "1/1", "1/0", "1/-2", "1/2.5", "2/16", "1 / 16", "1/16 ", "1/016", "1/n", "0.5"]
)
def test_other_shares_are_refused(share: str) -> None:
    with pytest.raises(ValueError, match=r"expected 1/n with a whole number n from 2 to 999999, as in 1/16, got '"):
        parse_sample(share)
