"""Which GPU of this machine a job uses, where many jobs share a few of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

SECONDS_BETWEEN_TRIES = 1.0


@contextmanager
def one_gpu(jobs_per_gpu: int | None) -> Iterator[None]:
    """Within this context the process has one GPU, which at most `jobs_per_gpu` jobs use at a time; waits for it.

    Must be entered before torch is imported, which then sees this GPU only (``CUDA_VISIBLE_DEVICES``). A place on a GPU
    is a lock that the kernel frees however the job ends. All jobs of a user on this machine, of whatever workflow, find
    the same locks.

    Args:
        jobs_per_gpu: None leaves everything as it is: a cluster's scheduler has given the job its GPU.

    Raises:
        ValueError: `jobs_per_gpu` is not at least 1.
    """
    if jobs_per_gpu is None:
        yield
        return
    if jobs_per_gpu < 1:
        raise ValueError(f"jobs_per_gpu: expected at least 1, but got {jobs_per_gpu}")
    gpus = allowed_gpus()
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nor must torch find one, which no place would be kept on
        print("No GPU found: on the CPU", flush=True)
        yield
        return
    gpu, place = _wait_for_place(gpus, jobs_per_gpu)
    with place:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        print(f"On GPU {gpu}", flush=True)
        yield


def allowed_gpus() -> list[str]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names, or else the numbers of all that nvidia-smi finds."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for part in named.split(",") if (gpu := part.strip()) and gpu != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no driver, or one without a GPU
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _wait_for_place(gpus: Sequence[str], jobs_per_gpu: int) -> tuple[str, AcquireReturnProxy]:
    """A GPU and the held lock of one of its places; an idle GPU before one that has a job."""
    folder = _locks_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    waits = False
    while True:
        for place in range(jobs_per_gpu):
            for gpu in gpus:
                lock = FileLock(folder / f"{gpu.replace('/', '-')}-{place}.lock")
                try:
                    return gpu, lock.acquire(timeout=0)
                except Timeout:
                    continue
        if not waits:
            waits = True
            print(f"Waits for one of {len(gpus)} GPUs, each with {jobs_per_gpu} jobs already", flush=True)
        time.sleep(SECONDS_BETWEEN_TRIES)


def _locks_folder() -> Path:
    """One a user; jobs in an allocation of a cluster share its GPUs with no one else, and number them from 0."""
    allocation = os.environ.get("SLURM_JOB_ID", "")
    return Path(tempfile.gettempdir()) / f"reluscope-gpus-{os.getuid()}{allocation and '-' + allocation}"
