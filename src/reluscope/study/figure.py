"""What a figure of a study shows: which runs, measures and checkpoints, held against what can be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reluscope import figures, measures
from reluscope.checkpoint_files import FilesSpec
from reluscope.figures.moments import position
from reluscope.hints import require_known
from reluscope.schedule import Steps
from reluscope.study.config import known
from reluscope.study.config_error import ConfigError
from reluscope.study.feasible import require_drawable
from reluscope.training.spec import TrainingSpec

_OF_ONE_MEASURE = ("profiles", "classes")

_EXAMPLES = {"moments": "[{step: 0}, {share: 1.0, title: end}]", "columns": "{ResNet: [resnet8, resnet20]}"}


@dataclass(frozen=True)
class FigureSpec:
    """One figure.

    Attributes:
        kind: which drawing module.
        runs: the runs of each entry of the config that it shows, one a seed.
        steps: the checkpoints it shows of each run.
        measures: measures drawn, in order.
        look: further arguments of the drawing function.
        caption: what the report says beneath it.
    """

    kind: str
    runs: Mapping[str, Sequence[str]]
    steps: Mapping[str, Steps]
    measures: Sequence[str]
    look: Mapping[str, Any]
    caption: str

    def shows(self, run: str) -> bool:
        return run in self.steps


def figure_of(
    name: str,
    section: Mapping[str, Any],
    specs: Mapping[str, Mapping[str, TrainingSpec | FilesSpec]],
    config: Mapping[str, Any],
) -> FigureSpec:
    """Build a figure of its section of the config.

    Args:
        specs: by entry of the config's runs, the trainings or files that it stands for, by the names of their runs.

    Raises:
        ConfigError: it cannot be drawn so.
    """
    look = dict(section)
    kind = look.pop("kind", "heatmaps")
    entries = look.pop("runs", None) or [run for runs in look.get("columns", {}).values() for run in runs]
    drawn, caption, seeds = look.pop("measures"), look.pop("caption", ""), look.pop("seeds", None)
    selections = look.pop("steps", None) or _moments(look.get("moments"))
    try:
        _check_look(kind, look)
        if kind in _OF_ONE_MEASURE and len(drawn) > 1:
            raise ConfigError(f"measures: {kind} show one, got {', '.join(drawn)}; make a figure of each")
        require_drawable(kind, section, specs, config)
        for measure in drawn:
            measures.check_options(measure, {})
            if measures.is_per_class(measure, config.get("measures", {}).get(measure) or {}) != (kind == "classes"):
                values = "one value a layer" if kind == "classes" else "one value a class"
                raise ConfigError(f"measures: {kind} cannot show {measure}, which has {values}")
        runs, steps = {}, {}
        for entry in entries:
            shown = {
                run: spec
                for run, spec in specs[known(entry, specs, "run")].items()
                if seeds is None or isinstance(spec, FilesSpec) or spec.seed in seeds
            }
            if not shown:
                raise ConfigError(f"seeds: run {entry!r} has none of {seeds}")
            runs[entry] = list(shown)
            for run, spec in shown.items():
                steps[run] = spec.select_steps(selections or counted_by_default(spec, config["runs"][entry], config))
                _check_epochs(kind, look, spec)
                for moment in look.get("moments", []):
                    position(kind, moment, steps[run], run)
        if not runs:
            raise ConfigError("expected runs, got none")
    except ValueError as error:
        raise ConfigError(f"figures.{name}: {error}") from error
    return FigureSpec(kind, runs, steps, drawn, look, caption)


def _check_look(kind: str, look: Mapping[str, Any]) -> None:
    """Whether the kind of figure can be drawn with these arguments, and has all that it needs."""
    required, optional = figures.parameters(kind)
    allowed = [name for name in (*required, *optional) if name not in ("series", "runs", "measures")]
    for name in look:
        require_known(f"a key of {kind}", name, allowed)
    for name in allowed:
        if name in required and name not in look:
            example = f", as {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            raise ConfigError(f"{kind} need {name}{example}")


def _check_epochs(kind: str, look: dict[str, Any], spec: TrainingSpec | FilesSpec) -> None:
    """Over time, steps are drawn where epochs are not known."""
    if "time" not in figures.parameters(kind).optional or spec.timeline().steps_per_epoch is not None:
        return
    if look.setdefault("time", "step") != "step":
        raise ConfigError("time: the epochs of files are not known; give checkpoints.steps_per_epoch, or time: step")


def _moments(moments: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The steps that a figure's moments name, and the last one, of which its shares are taken."""
    if not moments:
        return []
    steps = [moment["step"] for moment in moments if "step" in moment]
    shares = [moment["share"] for moment in moments if "share" in moment]
    return [{"list": steps}, {"shares": [*shares, 1.0]}]


def counted_by_default(spec: TrainingSpec | FilesSpec, entry: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Of a training what the config says for all; of files, those that the run names, or all."""
    if isinstance(spec, FilesSpec):
        return entry.get("steps", {"every": 1})
    return config.get("counting", {}).get("steps", {"per_epoch": 1})
