"""Claim 1: what the networks reach."""

from __future__ import annotations

from reluscope.scorecard.claims import Claim, Setting, percent, whole_percent
from reluscope.scorecard.results import MissingError, Reading


def final_test_accuracy(reading: Reading) -> float:
    """Share of the test images that are classified correctly after the last step."""
    if reading.run.test_accuracy is None:
        raise MissingError(f"{reading.run.name}: no test accuracy at the end")
    return reading.run.test_accuracy


CLAIMS = (
    Claim(
        number="1",
        name="test_accuracy",
        statement="ResNet-20 reaches a test accuracy of about 91% (91% or more, rounded to whole percent)",
        paper="91%",
        settings=(Setting("resnet", paper_data=True, paper_epochs=True),),
        measures=(),
        layers="none",
        value=final_test_accuracy,
        agrees=whole_percent(91, 100),
        show=percent,
    ),
)
