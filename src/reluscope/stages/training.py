"""Stage one: train a run and dump its steps."""

from __future__ import annotations

from pathlib import Path

from reluscope import paths
from reluscope.stages.devices import prepare
from reluscope.study import ConfigError, Run
from reluscope.training.loop import train
from reluscope.training.spec import TrainingSpec


def train_run(run: Run, output: str, *, study: str, threads: int) -> None:
    """Train `run` into the weights store `output`; a training killed before continues where it was saved.

    Args:
        study: name of the study, kept in the store.
        threads: processor threads; part of what determines the bits.

    Raises:
        ConfigError: the run's checkpoints are files, and there is nothing to train.
    """
    if not isinstance(run.spec, TrainingSpec):
        raise ConfigError(f"runs.{run.name}: its checkpoints are files, and there is nothing to train")
    train(run.spec, Path(paths.partial(output)), Path(output), device=prepare(threads), study=study)
