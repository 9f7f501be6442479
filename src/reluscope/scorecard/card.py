"""All claims, and a study held against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reluscope.scorecard import accuracy, cardinality, changes, convergence, entropy, initialisation, methods
from reluscope.scorecard.cardinality import VARIANTS
from reluscope.scorecard.claims import Claim
from reluscope.scorecard.results import MissingError, RunResult

__all__ = ["CLAIMS", "VARIANTS", "Line", "Verdict", "evaluate_all", "needed_measures"]

Verdict = Literal["agrees", "differs", "not in this study"]

_FILES = (accuracy, cardinality, changes, convergence, entropy, initialisation, methods)


def _order(claim: Claim) -> tuple[int, str]:
    """Number, then letter: "7b" -> (7, "b")."""
    digits = claim.number.rstrip("abcdefgh")
    return int(digits), claim.number[len(digits) :]


CLAIMS: tuple[Claim, ...] = tuple(sorted((claim for file in _FILES for claim in file.CLAIMS), key=_order))
"""Every claim, in the order of its number."""


@dataclass(frozen=True)
class Line:
    """One line of the scorecard: a claim and what the study says to it.

    Attributes:
        number, statement, paper: of the claim.
        ours: our figures, mean ± standard deviation over the seeds; empty where the study does not have it.
        agrees: the verdict.
        where: runs, checkpoints and layers that it was computed from, or what the study lacks.
    """

    number: str
    statement: str
    paper: str
    ours: str
    agrees: Verdict
    where: str


def needed_measures(network: Mapping[str, Any], method: Mapping[str, Any], data: Mapping[str, Any]) -> set[str]:
    """The measures, or names of `VARIANTS`, that the claims want of such a run."""
    return {name for claim in CLAIMS if claim.wants(network, method, data) for name in claim.measures}


def evaluate_all(results: Sequence[RunResult]) -> list[Line]:
    """Hold every claim against the runs of a study."""
    return [_line(claim, results) for claim in CLAIMS]


def _line(claim: Claim, results: Sequence[RunResult]) -> Line:
    try:
        finding = claim.evaluate(results)
    except MissingError as missing:
        return Line(claim.number, claim.statement, claim.paper, "", "not in this study", str(missing))
    verdict: Verdict = "agrees" if finding.agrees else "differs"
    return Line(claim.number, claim.statement, claim.paper, finding.ours, verdict, finding.where)
