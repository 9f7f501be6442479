"""What a study consists of: runs, measures and figures, and which steps each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from reluscope import measures, paths, schedule, scorecard
from reluscope.checkpoint_files import FilesSpec
from reluscope.data.spec import DataSpec, num_train_images, require_images, require_labels
from reluscope.networks.names import network_from_config
from reluscope.patterns import parse_sample
from reluscope.schedule import Steps
from reluscope.study.config import known
from reluscope.study.config_error import ConfigError
from reluscope.study.feasible import layers_of, require_feasible
from reluscope.study.figure import FigureSpec, counted_by_default, figure_of
from reluscope.training.methods import METHODS, Method, method_from_config
from reluscope.training.spec import TrainingSpec


@dataclass(frozen=True)
class Run:
    """One training, or the files that one left, and which of its steps are counted.

    Attributes:
        name: name of its results folder.
        title: what figures call it.
        spec: what is trained, or which files there are.
        steps: the counted steps, ascending.
        shard_length: steps whose checkpoints one counting job handles.
        batch_size: images a batch when counting; batch-norm statistics are taken over it.
        buffer_mb: 2**20 bytes in which keys wait to be sorted when counting.
        one_in: 1 / one_in of pattern space is kept of what was counted; 1 keeps all.
        layers: which layers are counted, and how: arguments of `count_patterns`.
        labels: whether patterns are counted per class; "shuffled" where also with shuffled labels.
    """

    name: str
    title: str
    spec: TrainingSpec | FilesSpec
    steps: Steps
    shard_length: int
    batch_size: int
    buffer_mb: int = 1024
    one_in: int = 1
    layers: Mapping[str, Any] = field(default_factory=dict)
    labels: bool | str = False

    @property
    def is_trained(self) -> bool:
        """Whether it is a training; its checkpoints are files otherwise."""
        return isinstance(self.spec, TrainingSpec)

    @property
    def num_images(self) -> int:
        """Training images."""
        return num_train_images(self.spec.data)

    @property
    def described_data(self) -> dict[str, Any]:
        """The data section with the number of training images, as claims ask for it."""
        return {**self.spec.data.to_dict(), "num_images": self.num_images}

    @cached_property
    def shards(self) -> Mapping[str, list[int]]:
        """Counted steps by shard."""
        return schedule.shards(self.steps, self.shard_length)


@dataclass(frozen=True)
class MeasureSpec:
    """One measure of one run.

    Attributes:
        function: name of the measure's function.
        options: its options.
        steps: the checkpoints it is computed at; "previous" is the one before among these.
        keep_nan: compute it also where pre-activations were NaN; else it is NaN there.
    """

    function: str
    options: Mapping[str, Any]
    steps: Steps
    keep_nan: bool = False


@dataclass(frozen=True)
class Study:
    """Everything a config asks for.

    Attributes:
        name: name of the study; a results folder belongs to one.
        runs: by name.
        options: options of each measure that the config names.
        figures: by name.
        scorecard: whether the paper's claims are held against the study.
        keep_nan: whether layers are measured also where pre-activations were NaN.
    """

    name: str
    runs: Mapping[str, Run]
    options: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, FigureSpec]
    scorecard: bool = False
    keep_nan: bool = False

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        files_as_listed: bool = False,
        manifest: Callable[[str], str] = paths.manifest,
    ) -> Self:
        """Build the study of a resolved config that fits the schema.

        Args:
            files_as_listed: take checkpoint files as the runs' manifests list them, instead of looking for them; for
                the jobs of a study, which must not see another one when files come and go meanwhile.
            manifest: where the manifest of a run of files is, by the run's name.

        Raises:
            ConfigError: unknown names, or values that do not fit together.
        """
        try:
            made: Callable[..., FilesSpec] = FilesSpec.from_manifest if files_as_listed else FilesSpec.from_config
            return cls._build(config, lambda run, *section: made(*section, manifest(run)), is_checked=files_as_listed)
        except ConfigError:
            raise
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from error

    @classmethod
    def _build(cls, config: Mapping[str, Any], find: Callable[..., FilesSpec], *, is_checked: bool) -> Self:
        methods = METHODS | {n: method_from_config(n, s or {}) for n, s in config.get("methods", {}).items()}
        options = {name: dict(given or {}) for name, given in config.get("measures", {}).items()}
        for name, given in options.items():
            try:
                measures.check_options(name, given)
            except ValueError as error:
                raise ConfigError(f"measures.{name}: {error}") from error
        specs = {name: _specs(name, entry, config, methods, find) for name, entry in config["runs"].items()}
        if not is_checked:  # jobs are of a study that was checked
            require_feasible(specs, config)
        drawn = {name: figure_of(name, section, specs, config) for name, section in config.get("figures", {}).items()}
        runs = {}
        for name, trainings in specs.items():
            for run, spec in trainings.items():
                if run in runs:
                    raise ConfigError(f"runs.{name}: there is a run {run!r} already; give this one another name")
                entry = {"title": name, **config["runs"][name]}
                runs[run] = _run(run, spec, entry, config, [f.steps.get(run) for f in drawn.values()])
        study = cls(
            config["study"], runs, options, drawn, config.get("scorecard", False), config.get("keep_nan", False)
        )
        study._check_samples()
        study._check_labels()
        return study

    def _check_samples(self) -> None:
        """Whether every measure can be computed from what is kept of the counts."""
        sampled = [run.name for run in self.runs.values() if run.one_in > 1]
        # by store, whose name is that of the function and its options: each is tried once, however many the runs
        for measure in {name: spec for run in sampled for name, spec in self.measures_of(run).items()}.values():
            try:
                measures.check_sample(measure.function, measure.options)
            except ValueError as error:
                raise ConfigError(f"measures.{measure.function}: {error}") from error

    @property
    def trained_runs(self) -> list[Run]:
        """The runs that are trainings; the others' checkpoints are files."""
        return [run for run in self.runs.values() if run.is_trained]

    def _check_labels(self) -> None:
        """Whether every measure of classes is given some."""
        wanted = {
            (m.function, run.labels): None for run in self.runs.values() for m in self.measures_of(run.name).values()
        }
        for function, labels in wanted:
            try:
                measures.check_labels(function, labels)
            except ValueError as error:
                raise ConfigError(f"measures.{function}: {error}") from error

    def measures_of(self, run: str) -> dict[str, MeasureSpec]:
        """The measures to compute for a run, by the name of their store: those that the config lists, over all counted
        steps, and those that its figures draw.

        A measure that compares with the previous checkpoint depends on which checkpoints there are: where a figure
        shows others than all that are counted, it gets its own, named <measure>.<figure>.
        """
        counted, keep = self.runs[run].steps, self.keep_nan
        wanted = {name: MeasureSpec(name, options, counted, keep) for name, options in self.options.items()}
        for figure, spec in self.figures.items():
            if spec.shows(run):
                for name in spec.measures:
                    store = self.measure_store(run, name, figure)
                    steps = counted if store == name else spec.steps[run]
                    wanted[store] = MeasureSpec(name, self.options.get(name, {}), steps, keep)
        for name in self.claimed_measures(self.runs[run]):
            function, options = scorecard.VARIANTS.get(name, (name, self.options.get(name, {})))
            wanted[name] = MeasureSpec(function, options, counted, keep)
        return wanted

    def claimed_measures(self, run: Run) -> list[str]:
        """The measures that the scorecard reads of a run, by the name of their store."""
        if not self.scorecard or not isinstance(run.spec, TrainingSpec):
            return []
        wanted = scorecard.needed_measures(run.spec.network, run.spec.method.to_dict(), run.described_data)
        return sorted(wanted)

    def measure_store(self, run: str, measure: str, figure: str) -> str:
        """Name of the store that holds `measure` of `run` as `figure` shows it."""
        steps, counted = self.figures[figure].steps[run], self.runs[run].steps
        own = measure in self._of_previous and not np.array_equal(steps, counted[counted <= steps[-1]])
        return f"{measure}.{figure}" if own else measure

    @cached_property
    def _of_previous(self) -> frozenset[str]:
        """The measures drawn that compare with the previous checkpoint."""
        drawn = {name for figure in self.figures.values() for name in figure.measures}
        return frozenset(name for name in drawn if "previous" in measures.needs(name))


def _specs(
    name: str,
    entry: Mapping[str, Any],
    config: Mapping[str, Any],
    methods: Mapping[str, Method],
    find: Callable[..., FilesSpec],
) -> Mapping[str, TrainingSpec | FilesSpec]:
    """The trainings of one entry of `runs`, one a seed, by the name of their run; or its files, as `find` has them."""
    try:
        network = network_from_config(entry["network"])
        checkpoints = entry.get("checkpoints", config.get("checkpoints", {}))
        if "files" in checkpoints:
            for key in ("method", "seeds"):
                if key in entry:
                    raise ConfigError(f"{key}: does not go with checkpoints.files, which are of one finished training")
            if "every" in checkpoints:
                raise ConfigError("checkpoints.every: does not go with files; give the run's steps: {every: ...}")
            data = DataSpec.from_config(entry.get("data", config["data"]))
            num_train_images(data)  # meets missing data here
            return {name: find(name, network, data, checkpoints)}
        for key in ("step", "steps_per_epoch"):
            if key in checkpoints:
                raise ConfigError(f"checkpoints.{key}: goes with checkpoints.files only")
        method = methods[known(entry.get("method", "stepwise"), methods, "method")]
        data = DataSpec.from_config(entry.get("data", config["data"]))
        every = checkpoints.get("every", 1)
        seeds = entry.get("seeds", config.get("seeds", [0]))
        trainings = {f"{name}-seed{seed}": TrainingSpec(network, data, method, seed, every) for seed in seeds}
        for training in trainings.values():
            training.timeline()  # meets missing data here
        require_labels(data)
        if "name" in network:
            require_images(data)
    except (ValueError, OSError) as error:
        raise ConfigError(f"runs.{name}: {error}") from error
    return trainings


def _run(
    name: str,
    spec: TrainingSpec | FilesSpec,
    entry: Mapping[str, Any],
    config: Mapping[str, Any],
    shown: Sequence[Steps | None],
) -> Run:
    """A run with all steps that its figures show; with the config's, where it names them or no figure shows it."""
    counting = config.get("counting", {})
    timeline = spec.timeline()
    wanted = [steps for steps in shown if steps is not None]
    if "steps" in entry or not wanted:
        try:
            wanted.append(spec.select_steps(entry.get("steps") or counted_by_default(spec, entry, config)))
        except ValueError as error:
            raise ConfigError(f"runs.{name}: {error}") from error
    steps = schedule.with_ends(wanted, timeline)
    shard_length = counting.get("shard_length", schedule.default_shard_length(timeline))
    batch_size = counting.get("batch_size", 128)
    buffer_mb, one_in = counting.get("buffer_mb", 1024), _one_in(counting.get("sample"))
    layers = layers_of(entry, config)
    labels = counting.get("labels", False)
    if labels and one_in > 1:
        raise ConfigError("counting.labels: does not go with counting.sample; take one of them away")
    if labels:
        require_labels(spec.data, "for counting.labels")
    return Run(name, entry["title"], spec, steps, shard_length, batch_size, buffer_mb, one_in, layers, labels)


def _one_in(sample: str | None) -> int:
    try:
        return 1 if sample is None else parse_sample(sample)
    except ValueError as error:
        raise ConfigError(f"counting.sample: {error}") from error
