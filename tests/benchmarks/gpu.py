"""What a GPU must show: right, fast, and the stages together; in a few minutes, the most important first.

    python tests/benchmarks/gpu.py --seconds 480 --results folder

- right: every engine agrees with the oracle on the device; a training by captured graph has the bits of the eager one,
  is killed, and goes on with the same bits;
- counting: all images through the networks at step 0 and after an epoch: bare forward, whole, Algorithm 1, memory;
- training: milliseconds per step with and without graph, every step dumped and not;
- study: ResNet-20 by the paper's method for as many epochs as time allows, counted at each epoch, measured, drawn,
  scored; where the time went;
- kernels: time, bytes and share of the memory's bandwidth of each kernel, and what the choice of engine hangs on.

Each part is a process of its own, is saved when it ends, and is stopped when its time is up; one that fails does not
stop the next. Images are CIFAR-10's from the folder RELUSCOPE_CIFAR10_FOLDER (train/<class>/*, test/<class>/*); where
it is unset, they are random, or digits. --smallest runs every part at its smallest size, on the CPU too (in Triton's
interpreter).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SHARES = {"right": 0.15, "counting": 0.35, "training": 0.35, "study": 0.85, "kernels": 1.0}
"""Of the time that is left when a part begins, the most that it may take."""

PACKAGES = ("reluscope", "torch", "triton", "numpy")


def run_part(part: str, arguments: argparse.Namespace, work: Path, seconds: float) -> dict[str, Any]:
    """What a part found: its own answer, or why there is none."""
    answer = work / f"{part}.json"
    command = [sys.executable, __file__, "--part", part, "--seconds", str(seconds), "--work", str(work)]
    command += ["--device", arguments.device] + (["--smallest"] if arguments.smallest else [])
    if arguments.results:
        command += ["--results", str(arguments.results)]
    started, error = time.monotonic(), None
    try:
        subprocess.run(command, timeout=seconds + 10, check=True)
    except subprocess.TimeoutExpired:
        error = f"stopped after {seconds + 10:.0f} s"
    except subprocess.CalledProcessError as failure:
        error = f"exit code {failure.returncode}"
    found = json.loads(answer.read_text()) if answer.is_file() else {}
    return {"seconds": round(time.monotonic() - started, 1), **({"error": error} if error else {}), **found}


def about(device: str) -> dict[str, Any]:
    """Date, machine and versions; asked of a process of its own, so that this one holds no memory of the device."""
    code = (
        f"import torch; d = torch.device({device!r}); print(torch.cuda.get_device_name(d) if d.type == 'cuda' else d)"
    )
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    versions = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    return {"date": datetime.now(UTC).date().isoformat(), "machine": name, "versions": versions}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"


def as_markdown(header: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    lines = [f"- {key}: {value}" for key, value in header.items()]
    for part, result in results.items():
        lines += ["", f"## {part} ({result['seconds']} s)"]
        lines += [f"**failed: {result['error']}**"] if "error" in result else []
        lines += ["", *result.get("lines", [])]
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together; default 480")
    parser.add_argument("--results", type=Path, help="folder for gpu.json, gpu.md and the study's figures")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES), help="default all")
    parser.add_argument("--device", help="cuda where there is one (default), or cpu")
    parser.add_argument("--smallest", action="store_true", help="every part at its smallest size")
    parser.add_argument("--part", choices=SHARES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.part:
        from gpu_parts import run  # imports torch

        run(arguments)
        return
    if arguments.device is None:
        code = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
        arguments.device = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
    if arguments.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    deadline = time.monotonic() + arguments.seconds
    header, results = about(arguments.device), {}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            left = deadline - time.monotonic()
            share = 1.0 if part == arguments.parts[-1] else SHARES[part]
            results[part] = run_part(part, arguments, Path(folder), left * share)
            if arguments.results:
                arguments.results.mkdir(parents=True, exist_ok=True)
                (arguments.results / "gpu.json").write_text(json.dumps({**header, **results}, indent=1) + "\n")
                (arguments.results / "gpu.md").write_text(as_markdown(header, results))
    print(as_markdown(header, results))
    if failed := [part for part, result in results.items() if "error" in result]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
