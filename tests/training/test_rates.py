"""Learning rates and momenta against the paper's numbers and the schedules' closed forms."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from reluscope.training.methods import METHODS, Cyclic, Method, OneCycle, Stepwise, method_from_config
from reluscope.training.rates import rates


def test_stepwise_drops_at_half_and_three_quarters() -> None:
    table = rates(METHODS["stepwise"], 400)
    drops = np.flatnonzero(np.diff(table.learning_rate)) + 1
    assert drops.tolist() == [200, 300]
    assert np.unique(np.round(table.learning_rate, 12)).tolist() == [0.001, 0.01, 0.1]
    assert np.all(table.momentum == 0.9)


def test_cyclic_is_triangular2() -> None:
    """Peaks in the middle of each of five cycles, the amplitude halved each time; momentum runs against it."""
    table = rates(METHODS["cyclic"], 1000)
    peaks = 100 + 200 * np.arange(5)
    expected = 0.002 + (0.2 - 0.002) / 2.0 ** np.arange(5)
    np.testing.assert_allclose(table.learning_rate[peaks], expected, rtol=1e-9)
    np.testing.assert_allclose(table.learning_rate[200 * np.arange(5)], 0.002, rtol=1e-9)
    assert table.momentum[0] == pytest.approx(0.9)
    assert table.momentum[100] == pytest.approx(0.85 * 0.9)


def test_one_cycle_is_two_cosines() -> None:
    """The closed form of OneCycleLR: 0.08 up to 0.8 within the first tenth, then down to 0.08 / 1000."""
    steps = 500
    table = rates(METHODS["one_cycle"], steps)
    up = 0.1 * steps - 1

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    expected = [
        cosine(0.08, 0.8, s / up) if s <= up else cosine(0.8, 8e-5, (s - up) / (steps - 1 - up)) for s in range(steps)
    ]
    np.testing.assert_allclose(table.learning_rate, expected, rtol=1e-9)
    assert table.momentum.min() == pytest.approx(0.85 * 0.9)


@pytest.mark.parametrize("name", METHODS)
def test_schedules_scale_with_the_number_of_epochs(name: str) -> None:
    short, long = rates(METHODS[name], 200), rates(METHODS[name], 400)
    np.testing.assert_allclose(short.learning_rate[10::20], long.learning_rate[20::40], rtol=0.2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_trainings_of_any_length(name: str, warmup: float) -> None:
    method = method_from_config(name, {"warmup": warmup} if name == "one_cycle" else {})
    for num_steps in [*range(1, 31), 100]:
        table = rates(method, num_steps)
        assert table.learning_rate.shape == table.momentum.shape == (num_steps,)
        assert (table.learning_rate > 0).all()
        assert (table.learning_rate <= method.learning_rate * (1 + 1e-9)).all()


def torchs(method: Method, num_steps: int) -> np.ndarray:
    """Learning rates and momenta as torch's own schedulers set them, [2, step]."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=method.learning_rate, momentum=method.momentum)
    momenta = {"base_momentum": getattr(method, "min_momentum", 0.0), "max_momentum": method.momentum}
    scheduler: Any
    if isinstance(method, Stepwise):
        drops = [round(share * num_steps) for share in method.milestones]
        scheduler = lr_scheduler.MultiStepLR(optimizer, drops, gamma=method.decay)
    elif isinstance(method, Cyclic):
        rise: Any = num_steps / (2 * method.cycles)
        ends = {"base_lr": method.min_learning_rate, "max_lr": method.learning_rate, "mode": "triangular2"}
        scheduler = lr_scheduler.CyclicLR(optimizer, step_size_up=rise, **ends, **momenta)
    else:
        assert isinstance(method, OneCycle)
        length = max(num_steps, 2)
        warmup = min(max(method.warmup, 1.5 / length), 1.0 - 0.5 / length)
        ends = {"div_factor": method.div_factor, "final_div_factor": method.final_div_factor, "pct_start": warmup}
        scheduler = lr_scheduler.OneCycleLR(optimizer, method.learning_rate, length, **ends, **momenta)
    table = []
    for _ in range(num_steps):
        table.append([float(optimizer.param_groups[0][name]) for name in ("lr", "momentum")])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # beyond the end
            if len(table) < num_steps:
                scheduler.step()
    return np.array(table).T


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in METHODS),
        ("stepwise", {"milestones": [0.001, 0.3, 0.3, 0.301], "decay": 0.3}),
        ("stepwise", {"milestones": []}),
        ("cyclic", {"cycles": 3}),
        ("cyclic", {"cycles": 7, "min_learning_rate": 0.05}),
        *(("one_cycle", {"warmup": share}) for share in (0.0, 0.37, 1.0)),
    ],
)
def test_every_bit_is_that_of_torchs_schedulers(name: str, settings: dict[str, Any]) -> None:
    method = method_from_config(name, settings)
    for num_steps in (*range(1, 14), 100, 333, 1000):
        ours = rates(method, num_steps)
        np.testing.assert_array_equal(np.stack([ours.learning_rate, ours.momentum]), torchs(method, num_steps))


def test_no_training_or_count_waits_for_torchs_compiler(tmp_path) -> None:
    """Neither imports it, as the construction of any of torch's optimizers does."""
    script = """
import sys
from reluscope.stages.counting import count_shard
from reluscope.stages.training import train_run
from reluscope.study import Study
methods = {name: {"epochs": 1, "batch_size": 20} for name in ("stepwise", "cyclic", "one_cycle")}
runs = {name: {"network": "resnet8", "method": name} for name in methods}
config = {"study": "s", "data": {"name": "digits", "images": 40}, "methods": methods, "runs": runs}
for run in Study.from_config(config).runs.values():
    train_run(run, f"{run.name}.zarr", study="s", threads=1)
    count_shard(run, next(iter(run.shards)), f"{run.name}.zarr", f"{run.name}-counts.zarr", threads=1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0
