"""Whether the results on disk are those of the config, so that another config's are never taken for them, or lost."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reluscope import measures, paths, stores
from reluscope.checkpoint_files import FilesSpec
from reluscope.patterns import sample_share
from reluscope.study.config_error import ConfigError
from reluscope.study.model import MeasureSpec, Run, Study


def counting_settings(run: Run, shard: str) -> dict[str, Any]:
    """All that determines a shard's counts, as its store keeps it; JSON types."""
    steps = run.shards[shard]
    source = "checkpoints" if isinstance(run.spec, FilesSpec) else "training"
    settings = {source: run.spec.to_dict(), "batch_size": run.batch_size, "steps": list(steps)}
    # named only where there is one, so that the settings of stores that keep all, of all layers, stay what they were
    if run.one_in > 1:
        settings["sample"] = sample_share(run.one_in)
    if run.layers:
        settings["layers"] = dict(run.layers)
    if run.labels:
        settings["labels"] = run.labels
    if isinstance(run.spec, FilesSpec):
        settings["sha256"] = [entry.sha256 for entry in run.spec.files_at(steps)]
    return settings


def measuring_settings(measure: MeasureSpec, known: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """All that determines a measure beside the counts, as its store keeps it; JSON types.

    Args:
        known: what was found before of functions with these options, and is found now; for those who ask often.
    """
    known = {} if known is None else known
    name = f"{measure.function} {json.dumps(dict(measure.options))}"
    if name not in known:
        options = {**measures.find(measure.function).options, **measure.options}
        known[name] = {"options": options, "code": measures.code(measure.function)}
    settings = {"options": known[name]["options"], "steps": measure.steps.tolist(), "code": known[name]["code"]}
    # named only where it is so, as above
    return {**settings, "keep_nan": True} if measure.keep_nan else settings


def check_results(study: Study, remembered: Callable[[str], bool] = lambda store: False, folder: str = "") -> None:
    """Refuse a results folder that another study or other settings made.

    Args:
        remembered: whether the workflow engine knows how a store was made, and makes it again by itself where the
            settings changed.
        folder: in which results/ lies; the working directory without it.

    Raises:
        ConfigError: names the store, the setting, and both values.
    """
    for store in sorted(Path(folder, paths.RESULTS).glob("runs/*/weights.zarr")):
        found = _attributes(str(store), "weights").get("study")
        if found != study.name:
            raise ConfigError(
                f"study: {store} belongs to the study {found!r}, but the config is {study.name!r}; choose another "
                "folder with --directory, or move results away"
            )
    known: dict[str, dict[str, Any]] = {}
    for run in study.runs.values():
        if run.is_trained:
            _check(Path(folder, paths.weights(run.name)), "weights", run.spec.to_dict, remembered)
        for shard in run.shards:
            settings = functools.partial(_named_settings, run, shard)
            _check(Path(folder, paths.counts(run.name, shard)), "counts", settings, remembered)
        for name, measure in study.measures_of(run.name).items():
            settings = functools.partial(_named_measuring, measure, known)
            _check(Path(folder, paths.measure(run.name, name)), "measure", settings, remembered)


def _named_settings(run: Run, shard: str) -> dict[str, Any]:
    """A shard's settings, with those that there are only sometimes: that there is none is a setting too."""
    return {**dict.fromkeys(("sample", "layers", "labels")), **counting_settings(run, shard)}


def _named_measuring(measure: MeasureSpec, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A measure's settings, likewise."""
    return {"keep_nan": None, **measuring_settings(measure, known)}


def _check(store: Path, kind: str, settings: Callable[[], dict[str, Any]], remembered: Callable[[str], bool]) -> None:
    if not store.exists() or remembered(str(store)):
        return
    if different := stores.difference(_attributes(str(store), kind), settings()):
        raise ConfigError(f"{store} was made with {different}; restore that, or delete the store to make it again")


def _attributes(store: str, kind: str) -> dict[str, Any]:
    try:
        return stores.attributes_of(store, kind)
    except (stores.StoreError, OSError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
