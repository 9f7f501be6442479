"""A study: the runs, counted steps, measures and figures that a config describes.  Free of torch.

`check` holds a config against the schema and `Study.from_config` against what the package offers, so that every
mistake is one line that names the key, what was given and what is allowed, before any job starts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jsonschema

from reluscope import figures, measures, paths, schedule, stores
from reluscope.data.spec import DataSpec
from reluscope.networks.names import resolve_network
from reluscope.training.methods import METHODS, Method, method_from_config
from reluscope.training.spec import TrainingSpec


class ConfigError(ValueError):
    """The config cannot be used as it is; the message is one line."""


@dataclass(frozen=True)
class Run:
    """One training, and which of its steps are counted.

    Attributes:
        name: name of its results folder.
        spec: what is trained.
        shards: counted steps by shard.
        batch_size: images a batch when counting; batch-norm statistics are taken over it.
    """

    name: str
    spec: TrainingSpec
    shards: Mapping[str, Sequence[int]]
    batch_size: int


@dataclass(frozen=True)
class FigureSpec:
    """One figure.

    Attributes:
        kind: which drawing module.
        runs: the runs of each panel group by its title: one run a seed.
        measures: measures drawn, in order.
        look: further arguments of the drawing function.
        caption: what the report says beneath it.
    """

    kind: str
    runs: Mapping[str, Sequence[str]]
    measures: Sequence[str]
    look: Mapping[str, Any]
    caption: str


@dataclass(frozen=True)
class Study:
    """Everything a config asks for.

    Attributes:
        name: name of the study; a results folder belongs to one.
        runs: by name.
        options: options of each measure that the config names.
        figures: by name.
    """

    name: str
    runs: Mapping[str, Run]
    options: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, FigureSpec]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the study of a config that fits the schema.

        Raises:
            ConfigError: unknown names, or values that do not fit together.
        """
        try:
            methods = METHODS | {n: method_from_config(n, s or {}) for n, s in config.get("methods", {}).items()}
            runs: dict[str, Run] = {}
            seeds: dict[str, list[str]] = {}
            for name, section in config["runs"].items():
                made = _runs(name, section, config, methods)
                seeds[name] = [run.name for run in made]
                runs |= {run.name: run for run in made}
            options = {name: dict(given or {}) for name, given in config.get("measures", {}).items()}
            for name, given in options.items():
                measures.check_options(name, given)
            drawn = {n: _figure(n, s, config["runs"], seeds) for n, s in config.get("figures", {}).items()}
        except ConfigError:
            raise
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from error
        return cls(config["study"], runs, options, drawn)

    def measures_of(self, run: str) -> list[str]:
        """The measures to compute for a run: those the config lists, and those its figures draw."""
        drawn = [f.measures for f in self.figures.values() if run in _flat(f.runs.values())]
        return sorted({*self.options, *_flat(drawn)})

    def check_results(self, recorded: Iterable[str] = ()) -> None:
        """Refuse results that another config made.

        Args:
            recorded: runs whose changed settings the workflow engine notices by itself, and retrains.

        Raises:
            ConfigError: names the run, the setting, and both values.
        """
        recorded = set(recorded)
        for run in self.runs.values():
            path = Path(paths.weights(run.name))
            if not (path / "zarr.json").is_file():
                continue
            found = stores.open_store(path, "weights").attrs
            if found["study"] != self.name:
                raise ConfigError(
                    f"study: {path} belongs to the study {found['study']!r}, but the config is {self.name!r}; "
                    "choose another folder with --directory, or move results away"
                )
            if run.name not in recorded and (different := changed_setting(dict(found), run.spec)):
                raise ConfigError(
                    f"runs: {path} was trained with {different}; restore it, or delete that folder to train anew"
                )


def changed_setting(found: Mapping[str, Any], spec: TrainingSpec) -> str | None:
    """The first setting in which a weights store's attributes differ from `spec`, in words; None where they agree."""
    for section, now in spec.to_dict().items():
        then = found.get(section)
        if then == now:
            continue
        if isinstance(now, dict) and isinstance(then, dict):
            key = next(k for k in {**then, **now} if then.get(k) != now.get(k))
            return f"{section}.{key}: {then.get(key)}, but the config says {now.get(key)}"
        return f"{section}: {then}, but the config says {now}"
    return None


def _runs(name: str, section: Mapping[str, Any], config: Mapping[str, Any], methods: Mapping[str, Method]) -> list[Run]:
    """The runs of one entry of `runs`: one a seed."""
    network = section["network"]
    network = {"name": network} if isinstance(network, str) else dict(network)
    counting = config.get("counting", {})
    try:
        resolved = resolve_network(**network)
        network = {"name": resolved.family, "depth": resolved.depth, "activation": resolved.activation}
        network |= {"widths": list(resolved.widths)} if resolved.widths else {}
        method = methods[_known(section.get("method", "stepwise"), methods, "method")]
        data = DataSpec.from_config(section.get("data", config["data"]))
        every = section.get("checkpoints", config.get("checkpoints", {})).get("every", 1)
        runs = []
        for seed in section.get("seeds", [0]):
            spec = TrainingSpec(network, data, method, seed, every)
            selections = section.get("steps", counting.get("steps", {"per_epoch": 1}))
            steps = schedule.select_steps(selections, spec.timeline(), spec.dumped_steps())
            shards = schedule.shards(steps, counting.get("shard_length", 1000))
            runs.append(Run(f"{name}-seed{seed}", spec, shards, counting.get("batch_size", 128)))
    except (ValueError, OSError) as error:
        raise ConfigError(f"runs.{name}: {error}") from error
    return runs


def _figure(
    name: str, section: Mapping[str, Any], sections: Mapping[str, Any], seeds: Mapping[str, Sequence[str]]
) -> FigureSpec:
    section = dict(section)
    kind = section.pop("kind", "heatmaps")
    try:
        figures.source_files(kind)
        chosen = [_known(run, sections, "run") for run in section.pop("runs")]
        drawn = section.pop("measures")
        for measure in drawn:
            measures.check_options(measure, {})
    except ValueError as error:
        raise ConfigError(f"figures.{name}: {error}") from error
    caption = section.pop("caption", "")
    titles = {sections[run].get("title", run): seeds[run] for run in chosen}
    if len(titles) < len(chosen):
        raise ConfigError(f"figures.{name}.runs: expected runs with different titles, got {', '.join(chosen)}")
    return FigureSpec(kind, titles, drawn, section, caption)


def _known(name: str, allowed: Iterable[str], what: str) -> str:
    if name not in allowed:
        raise ConfigError(f"unknown {what} {name!r}{_hint(name, allowed)}")
    return name


def _hint(name: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(allowed), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(allowed)}"


def _flat(lists: Iterable[Sequence[str]]) -> list[str]:
    return [item for items in lists for item in items]


def check(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Hold a config against a JSON schema.

    Raises:
        ConfigError: one line that names the key, what was given and what is allowed.
    """
    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    if (error := jsonschema.exceptions.best_match(errors)) is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "config"
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = [name for name in error.instance if name not in allowed]
        raise ConfigError(f"{key}: unknown key {unknown[0]!r}{_hint(unknown[0], allowed)}")
    if error.validator == "enum":
        raise ConfigError(f"{key}: got {error.instance!r}{_hint(error.instance, map(str, error.validator_value))}")
    if error.validator == "type":
        expected = error.validator_value
        expected = expected if isinstance(expected, str) else " or ".join(expected)
        raise ConfigError(f"{key}: expected {expected}, got {error.instance!r}")
    raise ConfigError(f"{key}: {error.message}")
