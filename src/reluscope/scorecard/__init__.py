"""The reproduction scorecard: the claims of Hartmann, Franzen & Brodehl (2021), each held against this study's runs.

    lines = evaluate_all(results)          # results: one RunResult a run
    write_markdown(lines, "results/scorecard.md", {"Study": "digits"})

A claim is one row of a table, in the file of its subject: accuracy, cardinality, changes, initialisation, entropy,
methods, convergence. It names the runs that it looks at, computes one or a few numbers from the measures of each, and
holds their means over the seeds against the paper's own number. Where the paper gives a tendency instead of a number,
the statement says what is measured. Layers are numbered from 0, stages from 1 as the paper does.
"""

from reluscope.scorecard.card import CLAIMS, VARIANTS, Line, evaluate_all, needed_measures
from reluscope.scorecard.claims import Claim, Finding, Setting
from reluscope.scorecard.results import RunResult
from reluscope.scorecard.writing import write_csv, write_markdown

__all__ = [
    "CLAIMS",
    "VARIANTS",
    "Claim",
    "Finding",
    "Line",
    "RunResult",
    "Setting",
    "evaluate_all",
    "needed_measures",
    "write_csv",
    "write_markdown",
]
