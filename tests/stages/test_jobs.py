"""A job writes into its log; an error is one line there and on the terminal, with a traceback only where it helps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def job(log: Path, body: str) -> subprocess.CompletedProcess[str]:
    code = f"from reluscope.stages.jobs import logged\nimport os, sys\nwith logged({str(log)!r}):\n    {body}\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    done = job(tmp_path / "log", "print('one'); print('two', file=sys.stderr); os.system('echo three')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted((tmp_path / "log").read_text().split()) == ["one", "three", "two"]


@pytest.mark.parametrize("error", ["ValueError", "FileNotFoundError", "KeyError"])
def test_an_error_is_one_line_and_its_traceback_in_the_log(tmp_path: Path, error: str) -> None:
    done = job(tmp_path / "log", f"raise {error}('\\n  data.path: what to do\\nand more')")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{error}: ")
    assert "data.path: what to do" in done.stderr
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_warning_of_ours_is_one_line_here_and_in_the_log(tmp_path: Path) -> None:
    body = (
        "import warnings; from reluscope.preactivations.warned import tell; tell('look here'); tell('look here'); "
        "warnings.warn('of others')"
    )
    done = job(tmp_path / "log", body)
    assert done.stderr.splitlines() == [f"{tmp_path / 'log'}: look here"]
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "look here"
    assert lines[1].endswith("UserWarning: of others")


def test_a_second_start_keeps_the_log_of_the_first(tmp_path: Path) -> None:
    job(tmp_path / "log", "print('one')")
    job(tmp_path / "log", "print('two')")
    assert (tmp_path / "log").read_text().split() == ["one", "two"]


def test_the_first_of_the_packages_warnings_is_a_line_on_the_terminal_too(tmp_path: Path) -> None:
    """And a line of the log, as all of them are; others' warnings stay in the log as they are."""
    body = (
        "import torch, warnings; from torch import nn; from reluscope import PatternRecorder\n"
        "    network, images = nn.Sequential(nn.Linear(1, 2), nn.ReLU()), torch.full((3, 1), torch.nan)\n"
        "    warnings.warn('another')\n"
        "    with PatternRecorder(network, images, 'c.zarr') as recorder: recorder.record(4); recorder.record(9)"
    )
    code = f"from reluscope.stages.jobs import logged\nwith logged('results/logs/count/r/0-9.log'):\n    {body}\n"
    (tmp_path / "results/logs/count/r").mkdir(parents=True)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    told = "pre-activations are NaN in layer 1 (6): their bits are 0, and say nothing of the network"
    assert done.stderr == f"count/r/0-9: step 4: {told}\n"
    log = (tmp_path / "results/logs/count/r/0-9.log").read_text().splitlines()
    assert [line for line in log if "another" not in line] == [f"step 4: {told}", f"step 9: {told}"]
    assert next(line for line in log if "another" in line).endswith("UserWarning: another")


def test_a_long_job_says_how_far_it_is(tmp_path: Path) -> None:
    """The log's last line, once it has changed, and not the one that an earlier start left."""
    log = tmp_path / "results/logs/count/run/0-9.log"
    log.parent.mkdir(parents=True)
    log.write_text("step 9: 10 of 10\n")
    body = (
        "from reluscope.stages import jobs\n"
        "jobs.SECONDS_BETWEEN_LINES = 0.2\n"
        "import time\n"
        "with jobs.logged('results/logs/count/run/0-9.log'):\n"
        "    time.sleep(0.5); print('step 1: 1 of 10'); print('step 2: 2 of 10'); time.sleep(0.7)\n"
    )
    command = [sys.executable, "-c", body]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == "count/run/0-9: step 2: 2 of 10\n"
