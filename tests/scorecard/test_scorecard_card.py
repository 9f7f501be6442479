"""The whole card: which claims there are, and what they ask of a study."""

from __future__ import annotations

import subprocess
import sys

from scorecard_runs import CIFAR10, DIGITS, networks

from reluscope import measures
from reluscope.scorecard import CLAIMS, VARIANTS, evaluate_all, needed_measures

STEPWISE = {"schedule": "stepwise", "epochs": 200}
TOYNET = {"name": "toynet", "depth": 20, "activation": "relu"}


def test_every_claim_of_the_paper_has_a_line() -> None:
    numbers = [claim.number for claim in CLAIMS]
    assert sorted({int(number.rstrip("abcdefgh")) for number in numbers}) == list(range(1, 18))
    assert numbers[:6] == ["1", "2a", "2b", "2c", "3a", "3b"]
    assert len({claim.name for claim in CLAIMS}) == len(set(numbers)) == len(CLAIMS)


def test_claims_need_measures_that_there_are() -> None:
    assert {name for claim in CLAIMS for name in claim.measures} <= {*measures.names(), *VARIANTS}


def test_measures_that_a_run_needs() -> None:
    everywhere = {"distinct_patterns", "pattern_changes", "relative_entropy", "weighted_jaccard_to_initial"}
    assert needed_measures(TOYNET, STEPWISE, DIGITS) == everywhere
    assert needed_measures(TOYNET, STEPWISE, CIFAR10) == {*everywhere, "occupancy_published"}
    assert needed_measures({**TOYNET, "name": "convnet"}, {"schedule": "cyclic", "epochs": 12}, DIGITS) == {
        "relative_entropy",
        "weighted_jaccard_to_final",
    }
    assert needed_measures({**TOYNET, "depth": 14}, STEPWISE, DIGITS) == set()


def test_an_empty_study_has_no_claim() -> None:
    lines = evaluate_all([])
    assert len(lines) == len(CLAIMS)
    assert {(line.agrees, line.ours) for line in lines} == {("not in this study", "")}
    assert lines[1].where == "no run: ToyNet-20, stepwise, ReLU, all of CIFAR-10, the paper's widths"


def test_a_run_without_measures_says_which_is_missing() -> None:
    by_number = {line.number: line for line in evaluate_all(networks("toynet", "convnet", "resnet"))}
    assert by_number["3a"].where == "convnet-stepwise-relu-seed0: no measure distinct_patterns"


def test_torch_is_not_waited_for() -> None:
    code = "import sys, reluscope.scorecard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
