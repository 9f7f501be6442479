"""Seeds, data sets and missing checkpoints, seen through claim 8d: relative entropy falls within the first steps."""

from __future__ import annotations

import pytest
from scorecard_runs import CIFAR10, DIGITS, layers, line, networks, run

from reluscope.scorecard import Setting
from reluscope.scorecard.claims import about, about_tenth, whole_percent

FALLS, RISES = {0: 0.8, 8: 0.7}, {0: 0.8, 8: 0.9}
OTHERS = networks("toynet", "convnet", relative_entropy=FALLS)


def test_seeds_are_averaged() -> None:
    """-0.1, -0.1 and 0.05: mean -0.05, standard deviation 0.0866."""
    seeds = [
        run("resnet", seed=seed, relative_entropy={0: 0.8, 8: 0.8 + change})
        for seed, change in enumerate((-0.1, -0.1, 0.05))
    ]
    found = line("8d", [*OTHERS, *seeds])
    assert found.agrees == "agrees"
    assert found.ours == "ToyNet-20: -0.1; ConvNet-20: -0.1; ResNet-20: -0.05 ± 0.0866"
    assert found.where.endswith("resnet-stepwise-relu (cifar10, 200 epochs; seeds 0, 1, 2; steps 0, 8); layers: all")


def test_where_puts_alike_settings_together() -> None:
    found = line("8d", [*OTHERS, run("resnet", epochs=50, relative_entropy=FALLS)])
    assert found.where == (
        "toynet-stepwise-relu, convnet-stepwise-relu (cifar10, 200 epochs; seed 0; steps 0, 8); "
        "resnet-stepwise-relu (cifar10, 50 epochs; seed 0; steps 0, 8); layers: all"
    )


def test_where_counts_many_seeds_and_checkpoints() -> None:
    seeds = [
        run("convnet", seed=seed, most_frequent_pattern=dict.fromkeys(range(0, 3001, 10), 0.2)) for seed in range(5)
    ]
    assert line("6a", seeds).where == (
        "convnet-stepwise-relu (cifar10, 200 epochs; 5 seeds; 301 checkpoints from step 0 to 3000); layers: all"
    )


def test_a_mean_that_differs_differs() -> None:
    seeds = [run("resnet", seed=0, relative_entropy=FALLS)]
    seeds += [run("resnet", seed=seed, relative_entropy={0: 0.5, 8: 0.9}) for seed in (1, 2)]
    assert line("8d", [*OTHERS, *seeds]).agrees == "differs"


def test_a_seed_without_the_checkpoint_is_left_out() -> None:
    seeds = [run("resnet", seed=0, relative_entropy={0: 0.8, 40: 0.1}), run("resnet", seed=1, relative_entropy=FALLS)]
    assert "resnet-stepwise-relu (cifar10, 200 epochs; seed 1; steps 0, 8)" in line("8d", [*OTHERS, *seeds]).where


def test_a_checkpoint_that_no_seed_has_is_missing() -> None:
    found = line("8d", [*OTHERS, run("resnet", relative_entropy={0: 0.8, 11: 0.7})])
    assert found.agrees == "not in this study"
    assert found.where == ("resnet-stepwise-relu-seed0: relative_entropy is not counted at any step from 1 to 10")
    exact = line("10a", networks("resnet", relative_entropy={39: 0.5}))
    assert exact.where == "resnet-stepwise-relu-seed0: relative_entropy is not counted at step 40"


def test_data_sets_are_not_mixed() -> None:
    digits = [run(family, relative_entropy=RISES, data=DIGITS) for family in ("toynet", "convnet", "resnet")]
    cifar10 = [*OTHERS, run("resnet", relative_entropy=FALLS)]
    assert line("8d", digits).agrees == "differs"
    assert line("8d", digits + cifar10).agrees == "agrees"
    assert "digits" in line("8d", digits + cifar10[:2]).where  # CIFAR-10 lacks ResNet-20


def test_the_longest_training_counts() -> None:
    short = run("resnet", epochs=10, relative_entropy=RISES)
    assert line("8d", [*OTHERS, short, run("resnet", relative_entropy=FALLS)]).agrees == "agrees"
    assert line("8d", [*OTHERS, short, run("resnet", relative_entropy={0: 0.8})]).agrees == "differs"


NETWORK = {"name": "convnet", "depth": 20, "activation": "relu"}
METHOD = {"schedule": "stepwise", "epochs": 200}
PAPER = Setting("convnet", paper_data=True, paper_epochs=True)


@pytest.mark.parametrize(
    ("network", "method", "data", "expected"),
    [
        ({}, {}, {}, True),
        ({"widths": [16, 32, 64]}, {}, {"images": 50_000}, True),
        ({"widths": [8, 16, 32]}, {}, {}, False),
        ({"depth": 14}, {}, {}, False),
        ({"name": "resnet"}, {}, {}, False),
        ({"activation": "prelu"}, {}, {}, False),
        ({}, {"schedule": "cyclic"}, {}, False),
        ({}, {"epochs": 12}, {}, False),
        ({}, {}, {"num_images": 5000}, False),
        ({}, {}, {"name": "imagefolder"}, True),
        ({}, {}, {"name": "digits"}, False),
    ],
)
def test_the_paper_s_setting(network: dict, method: dict, data: dict, expected: bool) -> None:
    assert PAPER.matches({**NETWORK, **network}, {**METHOD, **method}, {**CIFAR10, **data}) == expected
    assert Setting("convnet").matches({**NETWORK, "widths": [8, 16, 32]}, {**METHOD, "epochs": 12}, DIGITS)


@pytest.mark.parametrize(
    ("agrees", "inside", "outside"),
    [
        (about(0.3), (0.25, 0.35), (0.249, 0.351)),
        (whole_percent(4, 10), (0.036, 0.104), (0.034, 0.106)),
        (about_tenth(0.5), (0.46, 0.54), (0.44, 0.56)),
    ],
)
def test_tolerances(agrees: object, inside: tuple[float, float], outside: tuple[float, float]) -> None:
    assert [agrees([value]) for value in (*inside, *outside)] == [True, True, False, False]
    assert not agrees([inside[0]], [outside[0]])  # every setting must


def test_nan_neither_agrees_nor_differs() -> None:
    """As where pre-activations were NaN, at one layer: another seed decides, or none does."""
    of_nan = {0: 0.8, 8: layers(0.7, layer3=float("nan"))}
    seeds = [run("resnet", seed=0, relative_entropy=of_nan), run("resnet", seed=1, relative_entropy=FALLS)]
    assert "resnet-stepwise-relu (cifar10, 200 epochs; seed 1; steps 0, 8)" in line("8d", [*OTHERS, *seeds]).where
    found = line("8d", [*OTHERS, seeds[0]])
    assert (found.agrees, found.ours) == ("not in this study", "")
    assert found.where == "resnet-stepwise-relu-seed0: relative_entropy: NaN where the claim looks"
    shares = [run("resnet", relative_entropy={0: float("nan"), 8: float("nan"), 40: float("nan")})]
    assert {line(number, shares).agrees for number in ("8a", "8b", "10a")} == {"not in this study"}
