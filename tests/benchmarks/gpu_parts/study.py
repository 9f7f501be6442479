"""The stages together: ResNet-20 by the paper's method, counted at each epoch, measured, drawn, scored."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from gpu_parts import Answer, Settings
from reluscope import paths
from reluscope.stages.counting import count_shard
from reluscope.stages.drawing import draw_figure
from reluscope.stages.measuring import measure_run
from reluscope.stages.scoring import score_study
from reluscope.stages.training import train_run
from reluscope.study import Study, resolve

STUDIES = Path(__file__).parents[3] / "workflow/studies"
EPOCHS = 200


def run(settings: Settings, answer: Answer) -> None:
    trial = stages(study_of(settings, 1), settings, answer)
    per_epoch = trial["train"] + trial["count"] / 2 + trial["measure"] / 2  # reading images and two counts are in it
    left = settings.seconds_left - 25
    epochs = 2 if settings.smallest else max(2, min(EPOCHS, int(left / per_epoch)))
    study = study_of(settings, epochs)
    taken = stages(study, settings, answer)
    run = next(iter(study.runs.values()))
    answer.say(f"ResNet-20, {run.num_images:,} images, {epochs} epochs of a schedule shortened to as many, counted "
               f"{len(run.steps)} times")  # fmt: skip
    answer.say("\n| stage | seconds |\n|---|---|")
    for stage, seconds in taken.items():
        answer.say(f"| {stage} | {seconds:.1f} |")
    answer.say("")
    for line in Path(paths.scorecard("md")).read_text().splitlines():
        if line.startswith("|") and "not in this study" not in line:
            answer.say(line)


def study_of(settings: Settings, epochs: int) -> Study:
    """Figure 4's row and Figure 3's columns of one ResNet-20, as a config would have them."""
    data = settings.data()
    names = ("distinct_patterns", "net_pattern_changes", "most_frequent_pattern", "relative_entropy",
             "weighted_jaccard_to_initial")  # fmt: skip
    shown = {"kind": "heatmaps", "runs": ["resnet20"], "steps": {"per_epoch": 1}, "time": "epoch"}
    config = {
        "study": f"gpu-{epochs}",
        "data": {key: value for key, value in data.to_dict().items() if value is not None},
        "checkpoints": {"every": max(data_steps(data), 1)},
        "counting": {"batch_size": 128},
        "methods": {"stepwise": {"epochs": epochs}},
        "scorecard": True,
        "measures": {"occupancy": {"slots": 15_789_473}},
        "runs": {"resnet20": {"title": "ResNet-20", "network": "resnet20", "method": "stepwise"}},
        "figures": {
            "figure4": {**shown, "measures": list(names), "measures_as": "columns", "caption": "Figure 4 C"},
            "figure3": {**shown, "measures": ["relative_entropy", "weighted_jaccard_to_final", "occupancy"],
                        "measures_as": "rows", "caption": "Figure 3"},
        },
    }  # fmt: skip
    return Study.from_config(resolve(config, STUDIES))


def data_steps(data: object) -> int:
    """Steps per epoch."""
    from reluscope.data.spec import num_train_images

    return -(-num_train_images(data) // 128)  # type: ignore[arg-type]


def stages(study: Study, settings: Settings, answer: Answer) -> dict[str, float]:
    """Seconds of each stage; a failing one ends the rest."""
    taken: dict[str, float] = {}
    (run,) = study.runs.values()
    folder = settings.work / study.name
    folder.mkdir()
    os.chdir(folder)

    def stage(name: str, task: Callable[[], object]) -> None:
        start = time.perf_counter()
        task()
        taken[name] = time.perf_counter() - start
        answer.numbers[f"{study.name}, seconds"] = taken
        answer.save()
        print(f"{study.name}, {name}: {taken[name]:.1f} s", flush=True)

    threads = os.cpu_count() or 1
    stage("train", lambda: train_run(run, paths.weights(run.name), study=study.name, threads=threads))
    shards = [paths.counts(run.name, shard) for shard in run.shards]
    stage("count", lambda: [
        count_shard(run, shard, paths.weights(run.name), output, threads=threads)
        for shard, output in zip(run.shards, shards, strict=True)
    ])  # fmt: skip
    wanted = {paths.measure(run.name, name): spec for name, spec in study.measures_of(run.name).items()}
    stage("measure", lambda: measure_run(wanted, shards))
    Path(paths.FIGURES).mkdir(parents=True)
    figures = {name: [paths.figure(name, "png")] for name in study.figures}
    stage("draw", lambda: [draw_figure(study, name, outputs) for name, outputs in figures.items()])
    stage("score", lambda: score_study(study, paths.scorecard("md"), paths.scorecard("csv")))
    if settings.results and study.name != "gpu-1":
        settings.results.mkdir(parents=True, exist_ok=True)
        for name, (output,) in figures.items():
            (settings.results / f"gpu-{name}.png").write_bytes(Path(output).read_bytes())
    return taken
