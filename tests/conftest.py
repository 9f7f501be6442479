"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import threading
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


class LateCopies:
    """In place of a side stream: makes a copy only when somebody waits for it."""

    is_pinned = False

    def __init__(self) -> None:
        self._lock, self._begun, self.joins = threading.Lock(), [], 0

    def copy(self, pairs):
        self._begun.append(pairs)
        number = len(self._begun)
        return lambda: self._make(number)

    def join(self) -> None:
        self.joins += 1
        self._make(len(self._begun))

    def _make(self, stop: int) -> None:
        with self._lock:
            for i in range(stop):
                for target, source in self._begun[i]:
                    target.copy_(source)
                self._begun[i] = []


@pytest.fixture
def late_copies(monkeypatch: pytest.MonkeyPatch):
    """Lets trainings on the CPU go the way of those on a GPU, from when it is called on; returns their side stream."""

    from reluscope.checkpoints import writer as weights_writer  # not before the variable above is set

    def let() -> LateCopies:
        side = LateCopies()
        monkeypatch.setattr(weights_writer, "_side_stream", lambda network: side)
        return side

    return let


def forget_manifest(store: Path) -> None:
    """Make a finished store one of those made before stores kept a manifest."""
    (store / "manifest.json").unlink()
    metadata = json.loads((store / "zarr.json").read_text())
    del metadata["attributes"]["manifest"]
    (store / "zarr.json").write_text(json.dumps(metadata))


@pytest.fixture(name="forget_manifest")
def _forget_manifest():
    return forget_manifest
