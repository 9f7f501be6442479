"""The methods' numbers are the paper's, every one is open to the config, and nonsense is refused."""

from __future__ import annotations

import pytest

from reluscope.training.methods import METHODS, method_from_config

PAPER = {
    "stepwise": {"epochs": 200, "batch_size": 128, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "cyclic": {"epochs": 100, "learning_rate": 0.2, "min_learning_rate": 0.002, "weight_decay": 5e-4, "cycles": 5},
    "one_cycle": {"epochs": 50, "batch_size": 256, "learning_rate": 0.8, "div_factor": 10, "final_div_factor": 1000},
    "fixup": {"epochs": 200, "weight_decay": 5e-4, "scalar_learning_rate_factor": 0.1, "schedule": "stepwise"},
    "pyramidnet": {"epochs": 300, "nesterov": True, "milestones": (0.5, 0.75), "schedule": "stepwise"},
}


@pytest.mark.parametrize("name", PAPER)
def test_defaults_are_the_papers(name: str) -> None:
    assert PAPER[name].items() <= METHODS[name].to_dict().items()


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_numbers_make_it_again(name: str) -> None:
    assert method_from_config(name, METHODS[name].to_dict()) == METHODS[name]


def test_every_number_can_be_changed() -> None:
    for name, method in METHODS.items():
        for key, value in method.to_dict().items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                other = 7 if isinstance(value, int) else value * 0.99
                if key in ("learning_rate", "momentum"):  # stay above the smaller of the two
                    other = value * 1.01
                assert method_from_config(name, {key: other}).to_dict()[key] == other


def test_a_new_name_takes_a_schedule() -> None:
    slow = method_from_config("slow", {"schedule": "cyclic", "cycles": 1})
    assert slow.to_dict() == METHODS["cyclic"].to_dict() | {"cycles": 1}


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        ("slow", {}, r"^methods\.slow: a method under a new name needs schedule: stepwise, cyclic or one_cycle$"),
        ("slow", {"schedule": "cycle"}, r"methods\.slow\.schedule: unknown 'cycle'; did you mean 'cyclic'\?"),
        ("stepwise", {"schedule": "cyclic"}, "the paper's stepwise method"),
        ("stepwise", {"cycles": 3}, r"methods\.stepwise\.cycles: not a setting of the stepwise schedule"),
        ("cyclic", {"cycle": 3}, r"not a setting of the cyclic schedule; did you mean 'cycles'\?$"),
        ("stepwise", {"epochs": 0}, r"methods\.stepwise\.epochs: expected a number of at least 1, got 0"),
        ("stepwise", {"epochs": 1.5}, "expected a whole number, got 1.5"),
        ("stepwise", {"momentum": 1.5}, "between 0.0 and 1.0, got 1.5"),
        ("stepwise", {"nesterov": True, "momentum": 0}, r"methods\.stepwise\.nesterov: true needs a momentum above 0"),
        (
            "cyclic",
            {"learning_rate": 0.001},
            r"min_learning_rate: expected at most learning_rate \(0\.001\), got 0\.002",
        ),
        ("one_cycle", {"momentum": 0.5}, r"min_momentum: expected at most momentum \(0\.5\), got 0\.765"),
        ("stepwise", {"nesterov": 1}, "expected true or false, got 1"),
        ("stepwise", {"milestones": [0.75, 0.5]}, r"ascending fractions of the training, .* got \[0\.75, 0\.5\]"),
        ("stepwise", {"milestones": [100, 150]}, "fractions of the training, 0.5 for half, got"),
        ("stepwise", {"milestones": 3}, "expected a list of fractions"),
        ("stepwise", {"learning_rate": "high"}, "expected a number, got 'high'"),
        ("stepwise", {"learning_rate": float("nan")}, "got nan"),
    ],
)
def test_refused(name, section, message) -> None:
    with pytest.raises(ValueError, match=message):
        method_from_config(name, section)
