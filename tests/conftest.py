"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: its kernels then run on the CPU

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors are faster on one thread, and the bits of a training depend on the number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the clone."""
    return REPOSITORY


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder, by relative name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(name="bytes_below")
def _bytes_below():
    return bytes_below


def forget_manifest(store: Path) -> None:
    """Make a finished store one of those made before stores kept a manifest."""
    (store / "manifest.json").unlink()
    metadata = json.loads((store / "zarr.json").read_text())
    del metadata["attributes"]["manifest"]
    (store / "zarr.json").write_text(json.dumps(metadata))


@pytest.fixture(name="forget_manifest")
def _forget_manifest():
    return forget_manifest
