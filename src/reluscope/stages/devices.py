"""Which device and how many threads a job uses, and that its arithmetic is the same every time."""

from __future__ import annotations

import os

import torch


def prepare(threads: int) -> torch.device:
    """The first NVIDIA GPU this process may use, or the CPU with `threads` threads.

    On a GPU, full float32 (no TF32, which would flip pattern bits) and deterministic algorithms: the same bits from the
    same seed.
    """
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # nothing here reads what it has not written
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")
