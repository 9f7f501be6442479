"""The scorecard as a Markdown page and as a CSV table."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from reluscope.scorecard.card import Line, Verdict

_COLUMNS = ("Claim", "The paper says", "Paper", "Ours", "Verdict", "Computed from")


def write_markdown(lines: Sequence[Line], path: str | os.PathLike[str], facts: Mapping[str, str]) -> None:
    """Write a page: a heading, one bullet a fact of the study ("Data": "digits"), the tally, and a table.

    A verdict is bold where we differ.
    """
    tally = Counter(line.agrees for line in lines)
    verdicts: dict[Verdict, str] = {
        "agrees": "agrees",
        "differs": "**differs**",
        "not in this study": "not in this study",
    }
    rows = [(line.number, line.statement, line.paper, line.ours, verdicts[line.agrees], line.where) for line in lines]
    page = [
        "# Scorecard of the paper's claims",
        "",
        *[f"- {name}: {fact}" for name, fact in facts.items()],
        f"- Verdicts: {', '.join(f'{tally[verdict]} {verdict}' for verdict in verdicts)}",
        "",
        "Figures are means ± standard deviations over the seeds; a claim agrees where the mean does. Similarity is the "
        "weighted Jaccard similarity. Layers are counted from 0. What is said of 3,000 steps is measured at the end "
        "of a shorter training on other data than the paper's.",
        "",
        _row(_COLUMNS),
        _row(["---"] * len(_COLUMNS)),
        *map(_row, rows),
    ]
    Path(path).write_text("\n".join(page) + "\n", encoding="utf-8")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def write_csv(lines: Sequence[Line], path: str | os.PathLike[str]) -> None:
    """Write a table with a header row: number, statement, paper, ours, agrees, where."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(field.name for field in dataclasses.fields(Line))
        table.writerows(dataclasses.astuple(line) for line in lines)
