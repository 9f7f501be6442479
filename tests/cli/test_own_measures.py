"""A measure that somebody writes may do anything: whatever is wrong with it is one line that names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import reluscope
from reluscope import PatternRecorder, build_network

PACKAGE = Path(reluscope.__file__).parent
PROGRAM = [sys.executable, "-c", "import sys; from reluscope.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, and two recorded steps without and with classes."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(PACKAGE, folder / "src/reluscope", ignore=shutil.ignore_patterns("__pycache__"))
    network, images = build_network("toynet8", in_channels=1, widths=[4, 6, 8]), torch.randn(9, 1, 8, 8)
    for name, labels in (("counts", None), ("classes", [0, 1, 2] * 3)):
        with PatternRecorder(network, images, folder / f"{name}.zarr", labels=labels) as recorder:
            for step in (0, 1000):
                recorder.record(step)
    return folder


def run(folder: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "src/reluscope/measures/own.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


MEASURE = ("measure", "counts.zarr", "--measure", "own", "--output", "own.zarr")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return counts.counts[10**6]", "it raised IndexError: index 1000000 is out of bounds"),
        ("return {}['a']", "it raised KeyError: 'a'"),
        ("return counts.nothing", "it raised AttributeError: "),
        ("raise NotImplementedError", "it raised NotImplementedError"),
        ("counts.entropy", "expected a number, but it returned None"),
        ("return '3'", "expected a number, but it returned '3'"),
        ("return counts.counts[:2] / 2", "expected a number, but it returned array("),
        ("return 1j", "expected a number, but it returned 1j"),
    ],
)
def test_what_it_raises_or_returns_is_told_with_layer_and_step(folder: Path, body: str, says: str) -> None:
    later = f"    if counts.layer_name != 'layers.0.relu':\n        {body}\n    else:\n        return 1.0\n"
    done = run(folder, f"def own(counts):\n{later.replace('layers.0.relu', FIRST_LAYER)}", *MEASURE)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"reluscope measure: own of layer {SECOND_LAYER} at step 0: {says}")
    assert not (folder / "own.zarr").exists()


FIRST_LAYER, SECOND_LAYER = (f"stage1.block0.activation{number}" for number in (1, 2))


@pytest.mark.parametrize("value", ["1", "True", "float('nan')", "counts.counts.max()", "counts.counts.mean()"])
def test_numbers_of_any_kind_are_taken(folder: Path, value: str) -> None:
    done = run(folder, f"def own(counts):\n    return {value}\n", *MEASURE)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "own.zarr")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return classes.counts[10]", "own: tried on two patterns of two classes, it raised IndexError: index 10 is"),
        ("return classes.counts[:2] / 2", "expected 3 numbers, one for each class, but it returned array("),
    ],
)
def test_so_it_is_of_classes(folder: Path, body: str, says: str) -> None:
    arguments = ["measure", "classes.zarr", *MEASURE[2:]]
    done = run(folder, f"def own(counts, classes):\n    {body}\n", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def own(counts):\n    return (1\n", "measures/own.py, line 2: '(' was never closed"),
        (
            "import nowhere\ndef own(counts): return 1.0\n",
            "own.py raised ModuleNotFoundError: No module named ",
        ),
        ("[][0]\ndef own(counts): return 1.0\n", "own.py raised IndexError: list index out of range"),
    ],
)
@pytest.mark.parametrize("arguments", [MEASURE, ("measure", "--list")])
def test_a_file_that_cannot_be_imported_is_named(
    folder: Path, source: str, says: str, arguments: tuple[str, ...]
) -> None:
    done = run(folder, source, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("reluscope measure: ")
    assert says in done.stderr


def test_a_config_that_tries_it_says_what_it_raised(folder: Path) -> None:
    """Of a sample, and of classes in a figure: before anything is trained."""
    config = """
from reluscope.study import ConfigError, Study
config = {"study": "s", "data": {"name": "digits", "images": 90}, "runs": {"a": {"network": "resnet8"}}}
sampled = {**config, "counting": {"sample": "1/4"}, "measures": {"own": {}}}
figure = {"f": {"kind": "classes", "runs": ["a"], "measures": ["of_classes"], "moments": [{"step": 0}]}}
for one in (sampled, {**config, "counting": {"labels": True}, "figures": figure}):
    try:
        Study.from_config(one)
    except ConfigError as error:
        print(error)
"""
    source = "def own(counts):\n    return [][3]\ndef of_classes(counts, classes):\n    return {}[3]\n"
    (folder / "src/reluscope/measures/own.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-c", config]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("measures.own: tried on a sample of ")
    assert lines[0].endswith("it raised IndexError: list index out of range")
    assert lines[1].startswith("figures.f: of_classes: tried on two patterns of two classes, it raised KeyError: 3")
