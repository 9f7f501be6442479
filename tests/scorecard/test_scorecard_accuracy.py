"""Claim 1 on hand-made runs."""

from scorecard_runs import DIGITS, check, line, run


def test_accuracy_rounds_to_91_percent() -> None:
    check("1", [run("resnet", test_accuracy=0.906)], [run("resnet", test_accuracy=0.904)])


def test_accuracy_is_the_paper_s_only_on_its_data_and_length() -> None:
    for other in (run("resnet", test_accuracy=0.98, data=DIGITS), run("resnet", test_accuracy=0.9, epochs=10)):
        found = line("1", [other])
        assert found.agrees == "not in this study"
        assert "ResNet-20, stepwise, ReLU, all of CIFAR-10, the paper's widths, 200 epochs" in found.where


def test_accuracy_that_was_not_evaluated_is_missing() -> None:
    assert line("1", [run("resnet")]).where == "resnet-stepwise-relu-seed0: no test accuracy at the end"
