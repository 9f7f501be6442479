"""A copy of the repository in which the real workflow runs a tiny study."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG = """
study: tiny
data: {name: digits, images: 100, test_images: 50}
counting: {batch_size: 50, steps: {per_epoch: 1}, shard_length: 3}
methods:
  stepwise: {epochs: 2, batch_size: 50}
runs:
  a: {network: resnet8}
  b: {network: {name: convnet8, activation: prelu}, seeds: [0, 1]}
measures:
  entropy: {}
scorecard: true
figures:
  f: {runs: [a, b], measures: [distinct_patterns, weighted_jaccard_to_final], title: "Tiny"}
"""


class Clone:
    """A copy of the repository's tracked and new files, that runs Snakemake with its own source."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder = folder
        for part in ("Snakefile", "workflow", "profiles", "src", "envs", "tests", "README.md", "config.yaml"):
            source = repository / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part)
        self.configure(CONFIG)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder / "src")}

    def configure(self, config: str) -> None:
        (self.folder / "config.yaml").write_text(config)

    def start(self, *arguments: str, printed: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        running = self.start(*arguments, printed=subprocess.PIPE)
        printed, _ = running.communicate()
        return subprocess.CompletedProcess(running.args, running.returncode, printed)

    def run(self, *arguments: str) -> str:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *arguments: str) -> set[str]:
        """What a run would make now, below results; a job's rule and wildcards can be told from it."""
        rows = [line.split("\t") for line in self.run("--summary", *arguments).splitlines()]
        return {row[0].removeprefix("results/") for row in rows if row[-1] == "update pending"}

    def made(self, *arguments: str) -> set[str]:
        """The same of what a run did make."""
        before = self.outputs()
        self.run(*arguments)
        return self.changed(before)

    def changed(self, before: dict[str, tuple[int, int]]) -> set[str]:
        """Which of the outputs were written since they were `before`."""
        return {name for name, written in self.outputs().items() if before.get(name) != written}

    def outputs(self) -> dict[str, tuple[int, int]]:
        """When each store, figure and scorecard was written, by its name below results."""
        results = self.folder / "results"
        files = [
            p for pattern in ("runs/*/*.zarr", "runs/*/*/*.zarr", "figures/*", "score*") for p in results.glob(pattern)
        ]
        written = {file: (file / "zarr.json" if file.is_dir() else file).stat() for file in files}
        return {str(file.relative_to(results)): (s.st_ino, s.st_mtime_ns) for file, s in written.items()}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
