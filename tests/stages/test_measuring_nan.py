"""Measures of a layer with NaN pre-activations are NaN, unless they are asked for; whoever measures is told."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reluscope import PatternRecorder, cli, open_counts
from reluscope.series import open_series
from reluscope.stages.measuring import compute, measure_run
from reluscope.stages.shared_pass import announce, measure_together
from reluscope.study import MeasureSpec

pytestmark = pytest.mark.filterwarnings("default:pre-activations")

STEPS = np.array([0, 2, 4, 6, 8])
TOLD = (
    "pre-activations were NaN in 3, first at step 4: measures of these layers, and what compares with them, are NaN "
    "there; --keep-nan, or keep_nan: true in a config, measures them all the same"
)


@pytest.fixture(scope="module", params=[None, "1/4"])
def counted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers at five steps; a weight of the second is NaN at step 4, where one of the first is infinite."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    path = tmp_path_factory.mktemp("counts") / "c.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PatternRecorder(network, torch.randn(200, 6), path, sample=request.param) as recorder:
            for step in STEPS.tolist():
                before = {name: value.clone() for name, value in network.state_dict().items()}
                if step == 4:
                    network[0].bias.data[0] = -torch.inf  # type: ignore[union-attr,operator]
                    network[2].bias.data[0] = torch.nan  # type: ignore[union-attr,operator]
                recorder.record(step)
                network.load_state_dict({n: v + 0.1 * torch.randn_like(v) for n, v in before.items()})
    return str(path)


def is_nan(name: str, counted: str, *, steps: np.ndarray = STEPS, keep_nan: bool = False) -> list[list[bool]]:
    spec = MeasureSpec(name, {}, steps, keep_nan)
    return np.isnan(compute([spec], open_counts(counted))[0].values).tolist()


def of_nan(told: Iterable[warnings.WarningMessage]) -> list[str]:
    return [line for line in (str(one.message) for one in told) if "NaN" in line]


@pytest.mark.parametrize("name", ["entropy", "distinct_patterns", "jaccard_to_initial", "jaccard_to_final"])
def test_at_the_step_and_layer_with_nan(counted: str, name: str) -> None:
    assert is_nan(name, counted) == [[False, step == 4] for step in STEPS]
    assert not np.any(is_nan(name, counted, keep_nan=True))


def test_what_compares_with_it_is_nan_too(counted: str) -> None:
    assert is_nan("jaccard_to_previous", counted) == [[s == 0, s in (0, 4, 6)] for s in STEPS]
    assert is_nan("jaccard_to_previous", counted, keep_nan=True) == [[s == 0] * 2 for s in STEPS]
    assert is_nan("jaccard_to_previous", counted, steps=STEPS[[0, 3, 4]]) == [[True] * 2, [False] * 2, [False] * 2]


def test_other_values_and_kept_ones_are_those_of_the_measure(counted: str) -> None:
    spec, kept = MeasureSpec("entropy", {}, STEPS), MeasureSpec("entropy", {}, STEPS, keep_nan=True)
    series, all_the_same = compute([spec, kept], open_counts(counted))
    store = open_counts(counted)
    expected = np.array([[store.at(row, layer).entropy for layer in range(2)] for row in range(len(STEPS))])
    np.testing.assert_array_equal(all_the_same.values, expected)
    expected[2, 1] = np.nan
    np.testing.assert_array_equal(series.values, expected)
    if series.standard_error is not None:
        assert np.isnan(series.standard_error).tolist() == np.isnan(expected).tolist()


def test_measuring_says_so_once(counted: str, tmp_path: Path) -> None:
    wanted = {str(tmp_path / f"{name}.zarr"): MeasureSpec(name, {}, STEPS) for name in ("entropy", "distinct_patterns")}
    with pytest.warns(UserWarning, match="NaN") as told:
        measure_run(wanted, [counted])
    assert of_nan(told) == [TOLD]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "pre-activations")
        measure_run({str(tmp_path / "k.zarr"): MeasureSpec("entropy", {}, STEPS, keep_nan=True)}, [counted])
    attributes = [json.loads((tmp_path / f"{n}.zarr/zarr.json").read_text())["attributes"] for n in ("entropy", "k")]
    assert [one.get("keep_nan") for one in attributes] == [None, True]


def test_jobs_that_share_a_pass_say_so_and_do_not_mix_the_two(counted: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    announce(["entropy", "distinct_patterns"], Path("results/runs/r/measures.partial"))
    for keep in (False, True):
        measures = {name: MeasureSpec(name, {}, STEPS, keep) for name in ("entropy", "distinct_patterns")}
        output = "results/runs/r/measures/entropy.zarr"
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            measure_together("r", "entropy", measures, [counted], output)
        assert of_nan(told) == ([] if keep else [TOLD])
        assert np.isnan(open_series(output).values).sum() == (0 if keep else 1)


def test_the_command_says_it_in_one_line_and_may_keep_them(counted: str, tmp_path: Path, capsys) -> None:
    measure = ["measure", counted, "--measure", "entropy", "--output"]
    assert cli.main([*measure, str(tmp_path / "e.zarr")]) == 0
    assert capsys.readouterr().err == f"reluscope measure: {TOLD}\n"
    assert cli.main([*measure, str(tmp_path / "k.zarr"), "--keep-nan"]) == 0
    assert capsys.readouterr().err == ""
    values = [open_series(tmp_path / f"{name}.zarr").values for name in "ek"]
    assert [int(np.isnan(one).sum()) for one in values] == [1, 0]


def test_info_names_the_steps(counted: str, capsys) -> None:
    assert cli.main(["info", counted]) == 0
    lines = {line.split()[2]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  layer ")}
    assert lines["3,"].endswith(" distinct patterns, NaN at 1 step, 4")
    assert "NaN" not in lines["1,"]
