"""Configs that are changed at random, and what becomes of them: one line at once, or everything that they ask for.

`python tests/study/fuzzing.py 100000 [first seed]` changes as many as that, and runs what is accepted.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import io
import json
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from reluscope import build_network, paths
from reluscope.checkpoint_files import write_manifest
from reluscope.stages.counting import count_shard
from reluscope.stages.drawing import draw_figure
from reluscope.stages.measuring import measure_run
from reluscope.stages.scoring import score_study
from reluscope.stages.training import train_run
from reluscope.study import ConfigError, Study, check, require_memory, resolve

REPOSITORY = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
STUDIES = REPOSITORY / "workflow/studies"

SLOWEST = 1.0  # seconds of processor time until a config is refused or accepted
LONGEST_LINE = 1_500  # characters of a refusal
MEMORY = 4 << 30  # of the machine that the configs are for

_NETWORK = {"name": "resnet", "depth": 8, "activation": "relu", "widths": [2, 3, 4]}

TRAINED: dict[str, Any] = {
    "extends": [],
    "study": "fuzz",
    "seeds": [0, 1],
    "data": {
        "name": "digits",
        "images": 30,
        "test_images": 10,
        "augmentation": {"flip": False, "crop_padding": 1},
    },
    "checkpoints": {"every": 1},
    "counting": {
        "batch_size": 16,
        "steps": [{"per_epoch": 1}, {"every": 2, "until": 3}],
        "shard_length": 3,
        "buffer_mb": 16,
        "layers": {
            "include": ["stage*"],
            "exclude": ["stage1.block0*"],
            "channel_axis": {"*": 1},
            "signs": False,
        },
    },
    "methods": {
        "stepwise": {
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0.0001,
            "milestones": [0.5, 0.75],
            "decay": 0.1,
            "batch_norm_momentum": 0.1,
            "scalar_learning_rate_factor": 0.1,
        },
        "cyclic": {"epochs": 2, "batch_size": 16, "min_learning_rate": 0.002, "min_momentum": 0.7, "cycles": 2},
        "own": {
            "schedule": "one_cycle",
            "epochs": 2,
            "batch_size": 16,
            "warmup": 0.1,
            "div_factor": 10.0,
            "final_div_factor": 100,
        },
    },
    "runs": {
        "a": {"title": "A run", "network": _NETWORK, "method": "stepwise", "seeds": [0]},
        "b": {"network": {"name": "pyramidnet8"}, "method": "own", "seeds": [3]},
        "c": {"network": "fixup_resnet8", "method": "cyclic", "seeds": [3], "steps": {"list": [0, 2]}, "layers": {}},
    },
    "measures": {"occupancy": {"slots": 99}, "entropy": None},
    "scorecard": True,
    "figures": {
        "f": {
            "kind": "heatmaps",
            "title": "All",
            "runs": ["a", "c"],
            "seeds": [0, 3],
            "measures": ["distinct_patterns", "appeared"],
            "measures_as": "columns",
            "time": "step",
            "scale": "symlog",
            "steps": {"shares": [0.5, 1.0]},
            "caption": "C",
        },
        "g": {
            "kind": "profiles",
            "measures": ["relative_entropy"],
            "columns": {"One": ["a", "b"], "Two": ["c"]},
            "moments": [{"step": 0, "title": "start"}, {"share": 0.5}],
        },
    },
}

OF_CLASSES: dict[str, Any] = {
    "study": "classes",
    "data": {"name": "imagefolder", "path": "photos", "resize": [6, 5], "channels": 1, "stream": True},
    "counting": {"batch_size": 4, "labels": "shuffled", "steps": {"logarithmic": 1}},
    "methods": {"stepwise": {"epochs": 1, "batch_size": 4}},
    "runs": {"a": {"network": {"name": "toynet8", "widths": [3, 3, 3]}}},
    "measures": {"mutual_information_of_shuffled_labels": {}},
    "figures": {
        "f": {
            "kind": "classes",
            "runs": ["a"],
            "measures": ["entropy_of_each_class"],
            "moments": [{"step": 0}, {"share": 1.0, "title": "end"}],
        }
    },
}

ARRAYS: dict[str, Any] = {
    "study": "arrays",
    "data": {"name": "arrays", "path": "images.npz", "layout": "channels_last", "images": 12, "test_images": 3},
    "counting": {"batch_size": 5, "sample": "1/2", "steps": [{"every": 1}]},
    "methods": {"pyramidnet": {"epochs": 1, "batch_size": 5, "nesterov": True}},
    "runs": {"a": {"network": {"name": "convnet8", "widths": [5, 2, 3]}, "method": "pyramidnet"}},
    "measures": {"lost_patterns": {"slots": 5}},
    "figures": {"f": {"runs": ["a"], "measures": ["weighted_jaccard_to_previous"], "steps": {"every": 1}}},
}

FILES: dict[str, Any] = {
    "study": "files",
    "machine": {"name": "mine", "training": 1.0, "counting": 0.5},
    "data": {"name": "arrays", "path": "grey.npz", "layout": "channels_first", "images": 7},
    "counting": {"batch_size": 4, "buffer_mb": 8},
    "runs": {
        "a": {
            "network": {"name": "resnet8", "widths": [2, 2, 2]},
            "checkpoints": {"files": "saved", "step": "net_(\\d+)", "steps_per_epoch": 10},
            "steps": {"every": 10},
        },
        "b": {
            "network": {"name": "resnet8", "widths": [2, 2, 2]},
            "checkpoints": {"files": "saved/*.pt", "step": {"field": "epoch"}},
        },
    },
    "figures": {
        "f": {"runs": ["a"], "measures": ["jaccard_to_initial"], "steps": {"list": [10, 20]}},
        "h": {"runs": ["b", "a"], "measures": ["entropy"], "time": "step"},
        "g": {
            "kind": "profiles",
            "measures": ["entropy"],
            "columns": {"A": ["a"]},
            "moments": [{"step": 10}, {"share": 0.5}],
        },
    },
}

CONFIGS = (TRAINED, OF_CLASSES, ARRAYS, FILES)

_WORDS = """x a b f 1 1e3 0.5 null * [ ? *1 $x$ $ a_$b^$ {run} %s ../x / ~ ~nobody/x 1/2 1/16 1/999999 1/1000000 2/3
(\\d+) ( (x)(y) ([0-9]+)|x resnet8 resnet resnet9 toynet8 convnet14 pyramidnet8 fixup_resnet8 resnet2000 relu
resnet9999999998 prelu leaky_relu stepwise cyclic one_cycle own digits arrays imagefolder import math:sqrt no_such:thing
os.path:join images.npz grey.npz photos saved saved/*.pt entropy appeared distinct_patterns occupancy linear symlog
jaccard_to_final entropy_of_each_class mutual_information heatmaps profiles classes rows columns epoch step shuffled
channels_last"""

_TEXTS = [
    *_WORDS.split(),
    *("", " ", "x\ny", "x\ty", "\\$", "$\\frac{1}{$", "\x00", "\x1b", "\ud83d", "漢字 🙂", "ä" * 90),
    *("a" * 99, "b" * 101, "c" * 300, "d" * 5000),
]

_NUMBERS = [
    *(0, 1, 2, 3, 5, 7, 8, 16, 30, 31, 64, 100, -1, -8, 1000, 10**4, 10**6, 2**31 - 1, 2**31, 2**63, 10**22, 10**400),
    *(0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 64.0, -0.5, 1e-300, 1e308, 5e-324, math.inf, -math.inf, math.nan),
]

_LISTS = json.loads("""[
    [], [[]], [{}], [0], [1], [2, 1], [0.5], [0.5, 0.25], [1, 1], [0, 10000000000000000000000], [null], [true], ["a"],
    ["a", "b"], ["a", "a"], ["*"], ["stage*"], [3, 2, 1], [1, 1, 1], [4, 4, 70000], [9999, 9999, 9999],
    [65536, 65536, 65536], {}, {"a": 1}, {"step": 0}, {"share": 0.5}, {"step": 0, "share": 0.5}, {"every": 1},
    {"every": 2}, {"list": [0]}, {"list": []}, {"shares": []}, {"shares": [0.1]}, {"logarithmic": 3},
    {"logarithmic": 2147483648}, {"per_epoch": 2}, {"per_epoch": 1000000000}, {"every": 1, "until": 2}, {"slots": 0},
    {"slots": 1000000000000}, {"*": -3}, {"field": "x"}
]""")

_VALUES: list[Any] = [*_TEXTS, *_NUMBERS, *_LISTS, True, False, None, datetime.date(2026, 1, 2), b"x"]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and item of a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from _places(inner, (*place, key))


def _keys_of_schema() -> list[str]:
    keys: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            keys.update(node.get("properties", {}))
            for inner in node.values():
                walk(inner)

    walk(SCHEMA)
    return sorted(keys)


_KEYS = _keys_of_schema()


def mutated(seed: int) -> dict[str, Any]:
    """One of the configs, changed in one place, or in a few."""
    draw = random.Random(seed)
    config = copy.deepcopy(draw.choice(CONFIGS))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(config))
        *before, last = draw.choice(places)
        parent = config
        for key in before:
            parent = parent[key]
        match draw.choice(("replace", "replace", "replace", "near", "near", "delete", "insert", "copy")):
            case "replace":
                parent[last] = copy.deepcopy(draw.choice(_VALUES))
            case "near":
                parent[last] = _near(parent[last], draw)
            case "delete":
                del parent[last]
            case "insert" if isinstance(parent, dict):
                key = draw.choice([*_KEYS, *_KEYS, *(value for value in _VALUES if isinstance(value, str | int))])
                parent[key] = copy.deepcopy(draw.choice(_VALUES))
            case "insert":
                parent.insert(draw.randrange(len(parent) + 1), copy.deepcopy(draw.choice(_VALUES)))
            case "copy":
                *other, name = draw.choice(places)
                there: Any = config
                try:
                    for key in other:
                        there = there[key]
                    parent[last] = copy.deepcopy(there[name])
                except (KeyError, IndexError, TypeError):
                    continue
        if not list(_places(config)):
            break
    return config


def _near(value: Any, draw: random.Random) -> Any:
    """Of the same kind, and not far away."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, 2 * value, value // 2, 10 * value, value + 3))
    if isinstance(value, float):
        return draw.choice((2 * value, value / 2, 10 * value, 1 - value, value / 1000))
    if isinstance(value, str):
        return draw.choice((value + value, value[:-1], value + "$", value.upper(), f"{value} $x_"))
    if isinstance(value, list):
        return draw.choice((value[:1], value[1:], value[::-1], [*value, *value], value[:-1]))
    if isinstance(value, dict):
        return {key: inner for key, inner in value.items() if draw.random() < 0.7}
    return {}


def prepare(folder: Path) -> None:
    """The data and checkpoints that the configs name."""
    random_state = np.random.default_rng(0)
    for split, number in (("train", 5), ("test", 2)):
        for name in ("cat $", "dog"):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(number):
                image = Image.fromarray(random_state.integers(0, 256, (7, 9), np.uint8))
                image.save(folder / "photos" / split / name / f"{i}.png")
    images = random_state.random((15, 8, 9, 3), np.float32)
    labels = np.arange(15) % 3
    np.savez(folder / "images.npz", images=images, labels=labels, test_images=images[:4], test_labels=labels[:4])
    grey = np.ascontiguousarray(images[..., :1].transpose(0, 3, 1, 2))
    np.savez_compressed(folder / "grey.npz", images=grey, labels=labels)
    (folder / "saved").mkdir()
    for step in (10, 20, 30):
        torch.manual_seed(step)
        network = build_network("resnet8", in_channels=1, num_classes=3, widths=[2, 2, 2])
        torch.save({"epoch": step // 10, "state_dict": network.state_dict()}, folder / "saved" / f"net_{step}.pt")


def checked(config: dict[str, Any]) -> Study | str:
    """The study of a config, or the line that refuses it.

    Raises:
        AssertionError: anything else, or it took longer than `SLOWEST`, or the line is none.
    """
    started = time.process_time()
    result: Study | str
    try:
        resolved = {**resolve(config, STUDIES), "extends": []}
        check(resolved, SCHEMA)
        result = Study.from_config(resolved)
        require_memory(result.runs.values(), MEMORY)
    except ConfigError as error:
        result = str(error)
    took = time.process_time() - started
    assert took < SLOWEST, f"took {took:.1f} s: {str(result)[:200]}"
    if isinstance(result, str):
        assert "\n" not in result, result
        assert 10 < len(result) < LONGEST_LINE, result
        result.encode()
    return result


def is_small(study: Study) -> bool:
    """Whether it runs within seconds."""
    work = 0
    for run in study.runs.values():
        network = run.spec.network
        width = max(network.get("widths") or [100])
        if width > 130 or network.get("depth", 0) > 20 or len(run.shards) > 40 or run.num_images > 200:
            return False
        trained = run.spec.timeline().num_steps if run.is_trained else 0
        work += run.num_images * network.get("depth", 8) * (len(run.steps) + trained) + 300 * len(run.shards)
    pictures = sum(len(figure.runs) * len(figure.measures) for figure in study.figures.values())
    return work < 40_000 and pictures < 30 and len(study.runs) < 6


def run_all(study: Study) -> None:
    """Everything that a study asks for, in the working directory."""
    for run in study.runs.values():
        if run.is_trained:
            source = paths.weights(run.name)
            train_run(run, source, study=study.name, threads=1)
        else:
            source = paths.manifest(run.name)
            write_manifest(run.spec.files, Path(source))
        stores = [paths.counts(run.name, shard) for shard in run.shards]
        for shard, store in zip(run.shards, stores, strict=True):
            count_shard(run, shard, source, store, threads=1)
        wanted = {paths.measure(run.name, name): spec for name, spec in study.measures_of(run.name).items()}
        if wanted:
            measure_run(wanted, stores)
    for name in study.figures:
        draw_figure(study, name, [paths.figure(name, "png"), paths.figure(name, "pdf")])
    if study.scorecard:
        score_study(study, paths.scorecard("md"), paths.scorecard("csv"))


def run_to_the_end(study: Study) -> str:
    """Runs a study in a folder of its own; what stopped it that nobody could know before, or nothing.

    Raises:
        Exception: it does not run to the end.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for entry in here.iterdir():
            (Path(folder) / entry.name).symlink_to(entry)
        os.chdir(folder)
        try:
            Path(paths.FIGURES).mkdir(parents=True)
            with contextlib.redirect_stdout(io.StringIO()):
                run_all(study)
        except FloatingPointError as error:  # a rate that is too high for the network shows when it is trained
            return str(error)
        except ValueError as error:  # as a file of another network's weights
            if "saved/" not in str(error) or "\n" in str(error):
                raise
            return str(error)
        finally:
            os.chdir(here)
    return ""


def main(number: int, first: int = 0) -> None:
    """Change so many configs, and print what becomes of them."""
    seen: set[str] = set()
    counts = dict.fromkeys(("refused", "accepted", "run", "diverged", "FAILED"), 0)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        os.chdir(folder)
        for seed in range(first, first + number):
            config = mutated(seed)
            try:
                study = checked(config)
                counts["refused" if isinstance(study, str) else "accepted"] += 1
                if isinstance(study, Study) and is_small(study) and (key := repr(study)) not in seen:
                    seen.add(key)
                    print(f"{seed}", end=" ", file=sys.stderr, flush=True)
                    counts["diverged" if run_to_the_end(study) else "run"] += 1
            except BaseException as error:
                counts["FAILED"] += 1
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{last.filename}:{last.lineno}"
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]} ({where})", flush=True)
                if isinstance(error, KeyboardInterrupt):
                    break
        os.chdir("/")
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
