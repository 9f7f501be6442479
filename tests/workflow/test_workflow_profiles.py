"""The profiles with the real workflow; that of Slurm has tests/cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
study: tiny
data: {name: digits, images: 100}
methods:
  stepwise: {epochs: 1, batch_size: 50}
runs:
  a: {network: resnet8, seeds: [0, 1]}
"""


@pytest.mark.slow
def test_trainings_at_one_time_have_each_a_gpu(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\nprintf 'GPU 0: Fake\\nGPU 1: Fake\\n'\n")
    nvidia_smi.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-m", "snakemake", "weights", "--cores", "2", "--profile", "profiles/gpu"]
    done = subprocess.run(
        [*command, "--resources", "gpu=2", "--configfile", str(tmp_path / "study.yaml"), "--directory", str(tmp_path)],
        cwd=repository,
        env={**environment, "PATH": f"{tmp_path}:{environment['PATH']}", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    logs = [(tmp_path / f"results/logs/train/a-seed{seed}.log").read_text() for seed in (0, 1)]
    assert [re.findall(r"^On GPU (.*)$", log, re.MULTILINE) for log in logs] in ([["0"], ["1"]], [["1"], ["0"]])
