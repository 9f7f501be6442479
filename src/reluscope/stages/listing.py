"""Before a run of files is counted: its manifest, and what a person should know of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reluscope.checkpoint_files import FilesSpec, findings, write_manifest
from reluscope.study import ConfigError, Run


def list_files(run: Run, output: str, tell: Callable[[str], None]) -> None:
    """Write the manifest of a run of files to `output`, and tell of duplicates and gaps.

    Raises:
        ConfigError: the run is a training.
    """
    if not isinstance(run.spec, FilesSpec):
        raise ConfigError(f"runs.{run.name}: it is trained, and has no manifest of files")
    rows = write_manifest(run.spec.files, Path(output))
    print(f"{len(rows):,} files, steps {rows[0].step:,} to {rows[-1].step:,}", flush=True)
    for finding in findings(rows):
        tell(f"{run.name}: {finding}")
