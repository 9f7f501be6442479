"""What was probably meant, for few names and for many."""

from __future__ import annotations

import pytest

from reluscope.hints import did_you_mean, require_known

MANY = ["entropy", "relative_entropy", "occupancy", "appeared", "vanished", "jaccard", "changes", "lost", "kept"]


@pytest.mark.parametrize(
    ("given", "allowed", "hint"),
    [
        ("stp", ["epoch", "step"], "; did you mean 'step'? allowed are epoch, step"),
        ("iteration", ["epoch", "step"], "; allowed are epoch, step"),
        ("slot", ["slots"], "; did you mean 'slots'? allowed is slots"),
        ("slots", [], "; there is none to choose from"),
        ("ResNet", ["resnet", "toynet"], "; did you mean 'resnet'? allowed are resnet, toynet"),
        ("mine", ["Mine", "theirs"], "; did you mean 'Mine'? allowed are Mine, theirs"),
        ("lots", MANY, "; did you mean 'lost'?"),
        ("lots", MANY[1:], "; did you mean 'lost'? allowed are " + ", ".join(MANY[1:])),
        ("nonsense", MANY, "; allowed are " + ", ".join(MANY)),
        (None, ["none", "all"], "; allowed are none, all"),
        ("2", [20, 3], "; did you mean '20'? allowed are 20, 3"),
    ],
)
def test_hint(given: object, allowed: list[object], hint: str) -> None:
    assert did_you_mean(given, allowed) == hint


def test_of_many_names_the_nearest_three_come_first() -> None:
    names = [f"resnet{depth}" for depth in range(20, 32)]
    assert did_you_mean("resnet2", names).count(" or ") == 2


def test_a_known_name_passes() -> None:
    require_known("time", "step", iter(["epoch", "step"]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("steps", "time: unknown 'steps'; did you mean 'step'? allowed are epoch, step"),
        (None, "time: unknown None; allowed are epoch, step"),
        (["step"], "time: unknown ['step']; allowed are epoch, step"),
    ],
)
def test_an_unknown_name_is_refused(given: object, message: str) -> None:
    with pytest.raises(ValueError, match="time") as error:
        require_known("time", given, iter(["epoch", "step"]))
    assert str(error.value) == message
