"""The scorecard's files."""

from __future__ import annotations

import csv
from pathlib import Path

from reluscope.scorecard import Line, write_csv, write_markdown

LINES = [
    Line("1", "reaches 91%", "91%", "91.4% ± 0.2%", "agrees", "resnet20 (cifar10, 200 epochs, seeds 0, 1): at the end"),
    Line("2a", "at most | 22 million", "22 million", "41.3 million", "differs", "toynet20: steps 0"),
    Line("3a", "first fewest", "below 1", "", "not in this study", "no run: ConvNet-20"),
]

MARKDOWN = """\
# Scorecard of the paper's claims

- Study: paper
- Verdicts: 1 agrees, 1 differs, 1 not in this study

Figures are means ± standard deviations over the seeds; a claim agrees where the mean does. Similarity is the \
weighted Jaccard similarity. Layers are counted from 0. What is said of 3,000 steps is measured at the end of a \
shorter training on other data than the paper's.

| Claim | The paper says | Paper | Ours | Verdict | Computed from |
| --- | --- | --- | --- | --- | --- |
| 1 | reaches 91% | 91% | 91.4% ± 0.2% | agrees | resnet20 (cifar10, 200 epochs, seeds 0, 1): at the end |
| 2a | at most \\| 22 million | 22 million | 41.3 million | **differs** | toynet20: steps 0 |
| 3a | first fewest | below 1 |  | not in this study | no run: ConvNet-20 |
"""


def test_markdown(tmp_path: Path) -> None:
    write_markdown(LINES, tmp_path / "scorecard.md", {"Study": "paper"})
    assert (tmp_path / "scorecard.md").read_text(encoding="utf-8") == MARKDOWN


def test_csv(tmp_path: Path) -> None:
    write_csv(LINES, tmp_path / "scorecard.csv")
    with (tmp_path / "scorecard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["agrees"] for row in rows] == ["agrees", "differs", "not in this study"]
    assert rows[0] == {
        "number": "1",
        "statement": "reaches 91%",
        "paper": "91%",
        "ours": "91.4% ± 0.2%",
        "agrees": "agrees",
        "where": "resnet20 (cifar10, 200 epochs, seeds 0, 1): at the end",
    }
