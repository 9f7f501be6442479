"""Where everything lies: run -> file names, in one place.

Every name also takes a Snakemake wildcard ("{run}"), so that the rules and the package never disagree.
"""

from __future__ import annotations

import os
import re

RESULTS = "results"
FIGURES = f"{RESULTS}/figures"
LOGS = f"{RESULTS}/logs"


def run_folder(run: str) -> str:
    """Folder of everything that belongs to one run."""
    return f"{RESULTS}/runs/{run}"


def weights(run: str) -> str:
    """Weights store of a run."""
    return f"{run_folder(run)}/weights.zarr"


def manifest(run: str) -> str:
    """Manifest of a run whose checkpoints are files: file, step and digest."""
    return f"{run_folder(run)}/manifest.csv"


def counts(run: str, shard: str) -> str:
    """Counts store of one fixed range of steps of a run."""
    return f"{run_folder(run)}/counts/{shard}.zarr"


def measure(run: str, measure: str) -> str:
    """One measure of one run, over time and layers."""
    return f"{run_folder(run)}/measures/{measure}.zarr"


def shared_pass(run: str) -> str:
    """What the jobs that measure a run share until all are done; `partial` of the folder of its measures."""
    return f"{run_folder(run)}/measures.partial"


def figure(figure: str, extension: str) -> str:
    """A figure, as "png" or "pdf"."""
    return f"{FIGURES}/{figure}.{extension}"


def scorecard(extension: str) -> str:
    """The scorecard of the paper's claims, as "md" or "csv"."""
    return f"{RESULTS}/scorecard.{extension}"


def log(stage: str, name: str) -> str:
    """Log of one job of a stage."""
    return f"{LOGS}/{stage}/{name}.log"


def folder(file: str, name: str) -> str:
    """The folder in which a job's file has the name `name`: a storage plugin's, on the node, or "", the working one."""
    return file.removesuffix(name)


def partial(store: str) -> str:
    """Where the unfinished work for a store is kept until it is renamed to `store`."""
    return f"{store.removesuffix('.zarr')}.partial"


def in_workflow(store: str | os.PathLike[str]) -> str | None:
    """What the workflow calls a store, wherever its results lie; None of one that no workflow made."""
    found = re.search(rf"{RESULTS}/runs/[^/]+/(weights|(counts|measures)/[^/]+)\.zarr$", os.path.abspath(store))  # noqa: PTH100
    return found[0] if found else None
