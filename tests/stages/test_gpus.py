"""Jobs as real processes share fake GPUs: never more than allowed, none idle, a killed job's place is free again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

JOB = """
import os, sys, time
from pathlib import Path
from reluscope.stages import gpus

gpus.SECONDS_BETWEEN_TRIES = 0.05
folder, name, limit = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with gpus.one_gpu(int(limit) if limit else None):
    assert "torch" not in sys.modules
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "as it was")
    (folder / f"{name}.partial").write_text(visible)
    (folder / f"{name}.partial").rename(folder / f"{name}.on")
    while not (folder / f"{name}.stop").exists():
        time.sleep(0.02)
    (folder / f"{name}.on").unlink()
"""


class Machine:
    """A machine with so many fake GPUs, and jobs that use one until they are told to stop."""

    def __init__(self, folder: Path, num_gpus: int | None) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        self.environment.pop("SLURM_JOB_ID", None)
        self.environment |= {"TMPDIR": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self.jobs: dict[str, subprocess.Popen[str]] = {}
        (folder / "bin").mkdir()
        listing = "".join(f"GPU {i}: Fake (UUID: GPU-{i})\\n" for i in range(num_gpus or 0))
        answer = "exit 9" if num_gpus is None else f"printf '{listing}'"
        (folder / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "bin/nvidia-smi").chmod(0o755)

    def start(self, name: str, jobs_per_gpu: int | None, **environment: str) -> None:
        limit = "" if jobs_per_gpu is None else str(jobs_per_gpu)
        self.jobs[name] = subprocess.Popen(
            [sys.executable, "-c", JOB, str(self.folder), name, limit],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def running(self) -> dict[str, str]:
        """What CUDA_VISIBLE_DEVICES is for each job that has got its GPU."""
        return {file.stem: file.read_text() for file in self.folder.glob("*.on")}

    def wait_for(self, number: int) -> dict[str, str]:
        """The running jobs, as soon as there are so many."""
        end = time.monotonic() + 30
        while len(running := self.running()) < number:
            assert time.monotonic() < end, f"{len(running)} of {number} jobs run"
            time.sleep(0.02)
        return running

    def stop(self, name: str) -> str:
        """Tell a job to stop; what it printed."""
        (self.folder / f"{name}.stop").touch()
        job = self.jobs.pop(name)
        printed, _ = job.communicate(timeout=30)
        assert job.returncode == 0, printed
        return printed

    def kill(self, name: str) -> None:
        job = self.jobs.pop(name)
        job.kill()
        job.communicate()
        (self.folder / f"{name}.on").unlink()


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(tmp_path, getattr(request, "param", 2))
    yield machine
    for job in machine.jobs.values():
        job.kill()
        job.communicate()


def test_jobs_fill_all_gpus_and_no_place_twice(machine: Machine) -> None:
    for job in range(6):
        machine.start(str(job), jobs_per_gpu=2)
    first = machine.wait_for(4)
    assert sorted(first.values()) == ["0", "0", "1", "1"]
    time.sleep(0.5)  # ten tries of those that wait
    assert machine.running() == first
    for stopped in first:
        printed = machine.stop(stopped)
        assert f"On GPU {first[stopped]}" in printed
        assert len(machine.running()) <= 4
        assert max(list(machine.running().values()).count(gpu) for gpu in "01") <= 2
    last = machine.wait_for(2)
    assert not last.keys() & first.keys()
    for stopped in last:
        printed = machine.stop(stopped)
        assert printed.count("Waits for one of 2 GPUs, each with 2 jobs already\n") == 1


def test_an_idle_gpu_comes_before_a_busy_one(machine: Machine) -> None:
    for number in (1, 2):
        machine.start(str(number), jobs_per_gpu=3)
        running = machine.wait_for(number)
    assert sorted(running.values()) == ["0", "1"]


def test_a_killed_job_gives_its_gpu_back(machine: Machine) -> None:
    for job in ("a", "b"):
        machine.start(job, jobs_per_gpu=1)
    before = machine.wait_for(2)
    machine.start("c", jobs_per_gpu=1)
    time.sleep(0.5)
    assert machine.running() == before
    machine.kill("b")
    assert machine.wait_for(2) == {"a": before["a"], "c": before["b"]}


def test_the_users_choice_of_gpus_is_kept_to(machine: Machine) -> None:
    for job in ("a", "b", "c"):
        machine.start(job, jobs_per_gpu=1, CUDA_VISIBLE_DEVICES="3, MIG-x/1/0")
    assert sorted(machine.wait_for(2).values()) == ["3", "MIG-x/1/0"]
    time.sleep(0.5)
    assert len(machine.running()) == 2


@pytest.mark.parametrize("chosen", ["", "-1"])
def test_no_gpu_is_a_choice_too(machine: Machine, chosen: str) -> None:
    for number, job in enumerate("abc", 1):
        machine.start(job, jobs_per_gpu=1, CUDA_VISIBLE_DEVICES=chosen)
        assert set(machine.wait_for(number).values()) == {""}


@pytest.mark.parametrize("machine", [None, 0], indirect=True, ids=["no driver", "no GPU"])
def test_without_gpus_jobs_use_the_cpu(machine: Machine) -> None:
    for job in "abc":
        machine.start(job, jobs_per_gpu=1)
    assert set(machine.wait_for(3).values()) == {""}
    assert "No GPU found" in machine.stop("a")


def test_a_job_that_its_scheduler_gave_a_gpu_is_left_alone(machine: Machine) -> None:
    for job in "abc":
        machine.start(job, jobs_per_gpu=None, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="0")
    assert set(machine.wait_for(3).values()) == {"0"}
    assert machine.stop("a") == ""


def test_allocations_of_a_cluster_do_not_wait_for_each_other(machine: Machine) -> None:
    for allocation in ("7", "8"):
        machine.start(allocation, jobs_per_gpu=1, SLURM_JOB_ID=allocation, CUDA_VISIBLE_DEVICES="0")
    assert machine.wait_for(2) == {"7": "0", "8": "0"}


def test_a_share_of_nothing_is_refused(machine: Machine) -> None:
    machine.start("a", jobs_per_gpu=0)
    printed, _ = machine.jobs.pop("a").communicate(timeout=30)
    assert "jobs_per_gpu: expected at least 1, but got 0" in printed
