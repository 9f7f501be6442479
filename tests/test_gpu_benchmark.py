"""The benchmark of GPUs runs through at its smallest size without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_part_runs_through_on_the_cpu(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    command = [sys.executable, "tests/benchmarks/gpu.py", "--smallest", "--device", "cpu", "--seconds", "1200"]
    subprocess.run([*command, "--results", str(tmp_path)], cwd=repository, check=True, timeout=1300)
    results = json.loads((tmp_path / "gpu.json").read_text())
    parts = {name: result for name, result in results.items() if isinstance(result, dict)}
    assert set(parts) == {"right", "counting", "training", "study", "kernels"}
    assert not any("error" in result for result in parts.values())
    assert parts["right"]["numbers"]["engines wrong"] == {}
    assert parts["right"]["numbers"]["engine cases"] >= 30
    assert parts["right"]["numbers"]["groups agree"]
    assert (tmp_path / "gpu-figure3.png").stat().st_size > 10_000
