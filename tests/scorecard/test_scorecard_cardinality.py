"""Claims 2, 3, 4 and 17 on hand-made runs."""

from __future__ import annotations

import pytest
from scorecard_runs import check, line, networks, run

from reluscope import measures
from reluscope.scorecard import RunResult, cardinality

ALL = ("toynet", "convnet", "resnet")


def toynet(distinct: object, occupancy: float = 0.1) -> list[RunResult]:
    """Step 0 and step 8 alike."""
    patterns = {0: distinct, 8: distinct}
    return networks("toynet", distinct_patterns=patterns, occupancy_published={0: occupancy, 8: occupancy})


def stages(*means: float) -> list[RunResult]:
    return networks("convnet", "resnet", distinct_patterns={3000: means})


def total(**steps: float) -> list[RunResult]:
    return networks(*ALL, distinct_patterns={int(step[1:]): value for step, value in steps.items()})


EXAMPLES = {
    "2a": (toynet((22e6, 50e6, 50e6)), toynet((22e6 + 1, 1, 1))),
    "2b": (toynet((9e6, 9e6, 2e6)), toynet((2e6, 2e6, 2.6e6))),
    "2c": (toynet((3e6, 1, 1)), toynet((1, 1, 3e6 + 1))),
    "3a": (stages(1, 3, 2), stages(2, 3, 1)),
    "3b": (stages(1, 3, 2), stages(1, 2, 3)),
    "4a": (total(s0=10, s8=9), total(s0=10, s8=11)),
    "4b": (total(s8=9, s700=7, s1400=8, s3000=9), total(s8=9, s700=7, s1400=7, s3000=6)),
    # 1 - exp(-19 x 2.5 million / 3e8) = 14.6%, of 2.6 million 15.2%; of 2.9e9 slots 14.8% and 15.1%
    "17a": (
        networks(*ALL, distinct_patterns={0: 2.5e6, 8: 1e6}),
        networks(*ALL, distinct_patterns={0: 1e6, 8: 2.6e6}),
    ),
    "17b": (
        networks(*ALL, distinct_patterns={0: 24.5e6, 8: 1e6}),
        networks(*ALL, distinct_patterns={0: 1e6, 8: 25e6}),
    ),
}


@pytest.mark.parametrize("number", [claim.number for claim in cardinality.CLAIMS])
def test_claim(number: str) -> None:
    check(number, *EXAMPLES[number])


def test_hash_lists_stand_beside_the_exact_counts() -> None:
    """3e8 slots over 19 layers are 15,789,473 each; filled to 80%: 12.6 million."""
    found = line("2a", toynet((41.3e6, 1, 1), occupancy=0.8))
    assert found.ours == "exact: 41.3 million, in hash lists of an equal share of 3e8 slots: 12.6 million"
    assert found.agrees == "differs"


def test_all_networks_must_agree() -> None:
    good, bad = {0: 10, 8: 9}, {0: 10, 8: 11}
    runs = [run(family, distinct_patterns=good) for family in ALL[:2]] + [run("resnet", distinct_patterns=bad)]
    assert line("4a", runs).agrees == "differs"
    assert line("4a", runs).ours == "ToyNet-20: 0.9; ConvNet-20: 0.9; ResNet-20: 1.1"


def test_variants_are_measures_with_their_options() -> None:
    for name, options in cardinality.VARIANTS.values():
        measures.check_options(name, options)
    assert cardinality.VARIANTS["occupancy_published"] == ("occupancy", {"slots": 15_789_473})
