"""The parts of `gpu.py`, a file each."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from reluscope.data import DataSpec, load
from reluscope.data.images import ImageSet
from reluscope.stages.devices import prepare


class Answer:
    """What a part finds, on the disk from the first line on.

    Attributes:
        numbers: all of them, JSON types.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lines = file, []
        self.numbers: dict[str, object] = {}

    def say(self, line: str) -> None:
        """Adds a line of Markdown."""
        print(line, flush=True)
        self._lines.append(line)
        self.save()

    def save(self) -> None:
        """Puts lines and numbers on the disk."""
        self._file.write_text(json.dumps({"lines": self._lines, "numbers": self.numbers}))


@dataclass(frozen=True)
class Settings:
    """How a part is run.

    Attributes:
        device: where.
        smallest: at its smallest size.
        deadline: of `time.monotonic`.
        work: a folder for what is not kept, shared by all parts.
        results: a folder for what is kept, if any.
    """

    device: torch.device
    smallest: bool
    deadline: float
    work: Path
    results: Path | None

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def data(self) -> DataSpec:
        """CIFAR-10 from the folder, or digits."""
        if folder := os.environ.get("RELUSCOPE_CIFAR10_FOLDER"):
            few = {"images": 128, "test_images": 64} if self.smallest else {}
            return DataSpec.from_config({"name": "imagefolder", "path": folder, **few})
        few = {"images": 128, "test_images": 64} if self.smallest else {}
        return DataSpec.from_config({"name": "digits", **few})

    def images(self) -> ImageSet:
        """Training images in memory, on the device; random ones of the same size without a folder."""
        if not os.environ.get("RELUSCOPE_CIFAR10_FOLDER"):
            n, generator = 128 if self.smallest else 50_000, torch.Generator().manual_seed(0)
            random = torch.randn(n, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
            labels = torch.randint(10, (n,), generator=generator)
            return ImageSet(random, labels, None, None).to(self.device)
        kept = self.work / "images.pt"
        if not kept.is_file():
            read = load(self.data()).train
            torch.save([read.images, read.labels, read.mean, read.std], kept)
        return ImageSet(*torch.load(kept, weights_only=True)).to(self.device)


def run(arguments: argparse.Namespace) -> None:
    """Run one part, in this process."""
    deadline = time.monotonic() + arguments.seconds
    device = prepare(threads=torch.get_num_threads()) if arguments.device == "cuda" else torch.device("cpu")
    settings = Settings(device, arguments.smallest, deadline, arguments.work, arguments.results)
    part = importlib.import_module(f"gpu_parts.{arguments.part}")
    part.run(settings, Answer(arguments.work / f"{arguments.part}.json"))
