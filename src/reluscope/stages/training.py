"""Stage one: train a run and dump its steps."""

from __future__ import annotations

from pathlib import Path

from reluscope import paths
from reluscope.counting import count_patterns
from reluscope.data import load
from reluscope.stages.devices import prepare
from reluscope.study import ConfigError, Run
from reluscope.training.loop import initial_network, train
from reluscope.training.spec import TrainingSpec


def train_run(run: Run, output: str, *, study: str, threads: int, resume_elsewhere: bool = False) -> None:
    """Train `run` into the weights store `output`; a training killed before continues where it was saved.

    Args:
        study: name of the study, kept in the store.
        threads: processor threads; part of what determines the bits.
        resume_elsewhere: continue also what was begun on another device or number of threads, or with other versions.

    Raises:
        ConfigError: the run's checkpoints are files, and there is nothing to train; or the layers that it chooses
            cannot be counted.
    """
    if not isinstance(run.spec, TrainingSpec):
        raise ConfigError(f"runs.{run.name}: its checkpoints are files, and there is nothing to train")
    device = prepare(threads)
    if run.layers:
        _require_layers(run, run.spec)
    folder, final = Path(paths.partial(output)), Path(output)
    train(run.spec, folder, final, device=device, study=study, resume_elsewhere=resume_elsewhere)


def _require_layers(run: Run, spec: TrainingSpec) -> None:
    """Count the first batch, so that a choice of layers that is wrong is told before hours of training."""
    dataset = load(spec.data)
    try:
        count_patterns(initial_network(spec, dataset), dataset.train[: run.batch_size], **run.layers)
    except ValueError as error:
        raise ConfigError(f"runs.{run.name}: {error}") from error
