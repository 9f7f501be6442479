"""The command `reluscope`: what its subcommands give is what the functions give, and bad input is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray

from reluscope import PatternRecorder, build_network, cli, measures, open_counts, paths
from reluscope.patterns import PatternCounts
from reluscope.series import open_series
from reluscope.stages.measuring import measure_run
from reluscope.stages.training import train_run
from reluscope.study import MeasureSpec, Study


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded steps of a small network, without epochs."""
    path = tmp_path_factory.mktemp("counts") / "toy.zarr"
    torch.manual_seed(0)
    network = build_network("toynet8", in_channels=1, widths=[4, 6, 8])
    images = torch.randn(20, 1, 8, 8)
    with PatternRecorder(network, images, path) as recorder:
        for step in (0, 3, 4):
            for parameter in network.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            recorder.record(step)
    return path


def test_measures_are_those_of_the_workflow(counts: Path, tmp_path: Path, bytes_below, capsys) -> None:
    store = tmp_path / "occupancy.zarr"
    command = ["measure", str(counts), "--measure", "occupancy", "--option", "slots=5000", "--output", str(store)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{store}\n"
    spec = MeasureSpec("occupancy", {"slots": 5000}, open_counts(counts).steps)
    measure_run({str(tmp_path / "workflow.zarr"): spec}, [str(counts)])
    assert bytes_below(store) == bytes_below(tmp_path / "workflow.zarr")
    assert xarray.open_zarr(store).attrs["options"] == {"slots": 5000}


def test_several_measures_make_a_folder(counts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    names = ["entropy", "jaccard_to_previous"]
    assert cli.main(["measure", str(counts), "--measure", *names, "--output", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["entropy.zarr", "jaccard_to_previous.zarr"]
    series, store = open_series(folder / "entropy.zarr"), open_counts(counts)
    expected = [[measures.entropy(store.at(row, layer)) for layer in range(len(store.layer_names))] for row in range(3)]
    np.testing.assert_array_equal(series.values, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.zarr", "--measure", "entropy", "--output", "e.zarr"], "nowhere.zarr: expected a counts store, but"),
        (["{counts}", "--measure", "entopy", "--output", "e.zarr"], "unknown measure 'entopy'; did you mean 'entropy'"),
        (["{counts}", "--measure", "occupancy", "--option", "slot=1", "--output", "e"], "did you mean 'slots'"),
        (["{counts}", "--measure", "occupancy", "--option", "slots", "--output", "e"], "expected NAME=VALUE"),
        (["{counts}", "--measure", "occupancy", "--option", "slots=a", "--output", "e"], "slots: expected a whole num"),
        (["{counts}", "--measure", "entropy", "occupancy", "--output", "e.zarr"], "expected a folder for 2 measures"),
        (["{counts}", "--measure", "entropy", "--output", "{counts}"], "is there already; choose another name"),
        (
            ["{counts}", "--measure", "joint_entropy", "--output", "e.zarr"],
            "joint_entropy: needs counting.labels: true",
        ),
    ],
)
def test_bad_input_of_measure_is_one_line(counts: Path, capsys, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["measure", *(argument.format(counts=counts) for argument in arguments)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("reluscope measure: ")
    assert message in said.err
    assert (said.err.count("\n"), said.out, list(tmp_path.iterdir())) == (1, "", [])


def test_a_stopped_measure_leaves_nothing_that_looks_finished(
    counts: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reluscope.stores.finish", stop)
    store = tmp_path / "e.zarr"
    assert cli.main(["measure", str(counts), "--measure", "entropy", "--output", str(store)]) == 130
    assert capsys.readouterr().err == "reluscope measure: interrupted\n"
    assert not list(tmp_path.glob("*.zarr"))


def test_measures_are_listed(capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["measure", "--list"])
    assert exit_.value.code == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == measures.names()
    assert "[slots=" in listed


def test_panels_are_runs_and_measures(counts: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from reluscope import figures

    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, files: drawn.append(figure))
    for folder in ("a", "b"):
        names = ["--measure", "entropy", "distinct_patterns"]
        assert cli.main(["measure", str(counts), *names, "--output", str(tmp_path / folder)]) == 0
    given = [str(tmp_path / f / f"{m}.zarr") for f in ("a", "b") for m in ("entropy", "distinct_patterns")]
    assert cli.main(["plot", *given, "--output", "f.png", "--title", "Two"]) == 0
    axes = [axes for axes in drawn[0].axes if axes.get_label() != "<colorbar>"]
    assert [one.get_title() for one in axes[:2]] == ["a", "b"]
    assert len(axes) == 4
    shown = axes[0].collections[0].get_array()
    np.testing.assert_array_equal(np.asarray(shown).T, open_series(tmp_path / "a" / "entropy.zarr").values)
    assert drawn[0].get_supxlabel() == "Step"  # the recording knows no epochs
    capsys.readouterr()
    for arguments, message in (
        ([*given[:3]], "b: no store of distinct_patterns, but other runs have one"),
        ([given[0], given[0]], "expected each measure of a run once"),
        ([given[0], "--time", "epoch"], "--time: expected step"),
    ):
        assert cli.main(["plot", *arguments, "--output", "f.png"]) == 2
        assert message in capsys.readouterr().err


def test_measures_and_pictures_of_other_images_are_told(counts: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from reluscope import figures

    monkeypatch.setattr(figures, "save", lambda figure, files: None)
    network = build_network("toynet8", in_channels=1, widths=[4, 6, 8])
    with PatternRecorder(network, torch.randn(20, 1, 8, 8), tmp_path / "later.zarr") as recorder:
        recorder.record(8)
    output = ["--measure", "entropy", "--output", str(tmp_path / "m")]
    assert cli.main(["measure", str(counts), str(tmp_path / "later.zarr"), *output]) == 2
    assert "later.zarr was made of other training images" in capsys.readouterr().err
    for store, name in ((counts, "one"), (tmp_path / "later.zarr", "two")):
        assert cli.main(["measure", str(store), *output[:-1], str(tmp_path / f"{name}.zarr")]) == 0
    capsys.readouterr()
    assert cli.main(["plot", str(tmp_path / "one.zarr"), str(tmp_path / "two.zarr"), "--output", "f.png"]) == 0
    assert capsys.readouterr().err == "one, two: not all were made of the same training images\n"


def test_info_says_what_is_there_finished_or_not(counts: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["info", str(counts)]) == 0
    said = capsys.readouterr().out
    assert f"{counts}: counts, finished, " in said
    assert "3 steps, 0 to 4" in said
    store = open_counts(counts)
    first, last = store.at(0, 0).num_distinct, store.at(-1, 0).num_distinct
    assert f"4 channels, 8 x 8, 1,280 positions, {first:,} to {last:,} distinct patterns" in said
    network = build_network("toynet8", in_channels=1)
    recorder = PatternRecorder(network, torch.zeros(2, 1, 8, 8), tmp_path / "c.zarr")
    recorder.record(7)
    recorder.close(finish=False)
    assert cli.main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{paths.partial(str(tmp_path / 'c.zarr'))}/counts.zarr: counts, UNFINISHED" in said
    assert "so far 1 step, 7" in said
    (tmp_path / "empty").mkdir()
    assert cli.main(["info", str(tmp_path / "empty")]) == 2
    assert "expected a store or a folder with stores" in capsys.readouterr().err


def test_info_says_how_far_unfinished_stores_are(tmp_path: Path, monkeypatch, capsys) -> None:
    """Of a training what a restart would go on from; of a shard also how many steps it will have."""
    from reluscope.checkpoints import writer as weights_writer
    from reluscope.counts import CountsWriter

    class StopError(Exception):
        pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights_writer, "BLOCK_STEPS", 2)
    methods = {"stepwise": {"epochs": 3, "batch_size": 20}}
    config = {"study": "s", "data": {"name": "digits", "images": 60}, "methods": methods}
    run = Study.from_config({**config, "runs": {"a": {"network": "resnet8"}}}).runs["a-seed0"]
    append, dumped = weights_writer.WeightsWriter.append, []

    def stopped(writer: weights_writer.WeightsWriter, *given: object) -> None:
        if writer._num_dumped == dumped[-1]:
            raise StopError
        append(writer, *given)

    monkeypatch.setattr(weights_writer.WeightsWriter, "append", stopped)
    for number, expected in ((1, "nothing saved"), (7, "6 steps, 0 to 5, of 10")):
        dumped.append(number)
        with pytest.raises(StopError):
            train_run(run, "w.zarr", study="s", threads=1)
        assert cli.main(["info", "."]) == 0
        assert f"  so far {expected}\n" in capsys.readouterr().out
    writer = CountsWriter(
        Path("c.partial"), Path("c.zarr"), {"steps": [0, 3, 9]}, source=Path("w.partial/weights.zarr")
    )
    for step in (0, 3):
        writer.append(step, 0.0, [PatternCounts("a", np.zeros(1, np.uint16), np.ones(1, np.int64), 3)])
    writer.save()
    assert cli.main(["info", "c.partial"]) == 0
    assert "  so far 2 steps, 0 to 3, of 3\n" in capsys.readouterr().out
    for damaged in ("c.partial/state.json", "w.partial/state.pt"):
        Path(damaged).write_bytes(b"{}")
        assert cli.main(["info", str(Path(damaged).parent)]) == 0
        assert f"  so far unknown: {damaged} cannot be read (" in capsys.readouterr().out


def test_info_of_a_measure_names_its_options_but_not_every_layer(counts: Path, tmp_path: Path, capsys) -> None:
    command = ["measure", str(counts), "--measure", "occupancy", "--option", "slots=5000", "--output"]
    assert cli.main([*command, str(tmp_path / "o.zarr")]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "o.zarr")]) == 0
    said = capsys.readouterr().out
    names = open_counts(counts).layer_names
    assert "measure occupancy, finished, " in said
    assert "options slots=5000" in said
    assert f"  {len(names)} layers, {names[0]} to {names[-1]}\n" in said
    assert said.count("\n") == 5


def test_a_real_process_measures_and_draws(counts: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; from reluscope.cli import main; sys.exit(main())"]
    subprocess.run(
        [*program, "measure", counts, "--measure", "entropy", "--output", "e.zarr"], check=True, cwd=tmp_path
    )
    subprocess.run([*program, "plot", "e.zarr", "--output", "e.png", "e.pdf"], check=True, cwd=tmp_path)
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    failed = subprocess.run(
        [*program, "plot", "e.png", "--output", "f.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (failed.returncode, failed.stderr.count("\n"), failed.stdout) == (2, 1, "")


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_python_without_assertions_is_told_in_one_line_at_the_start(counts: Path, tmp_path: Path, level: str) -> None:
    """Zarr reads no group then; counting, which needs none, goes on."""
    environment = {**os.environ, "PYTHONOPTIMIZE": level}

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    for arguments in (["info", str(counts)], ["measure", str(counts), "--measure", "entropy", "--output", "e.zarr"]):
        done = run(f"import sys; from reluscope.cli import main; sys.exit(main({arguments}))")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "Python runs without assertions (PYTHONOPTIMIZE is set, or -O was given), without which" in done.stderr
    assert run("from reluscope import PatternRecorder").stderr.splitlines()[-1].startswith("reluscope.stores.StoreErr")
    code = "import torch, reluscope; print(reluscope.count_patterns(torch.nn.ReLU(), torch.ones(3, 4))[0].keys)"
    assert run(code).stdout == "[15]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["measure", "--help"], ["plot", "--help"], ["info", "--help"]])
def test_help_waits_for_nothing_heavy_and_shows_an_example(arguments: list[str]) -> None:
    code = (
        "import atexit, sys; heavy = {'torch', 'zarr', 'numpy', 'matplotlib'}\n"
        "atexit.register(lambda: print('LOADED', *sorted(heavy & set(sys.modules))))\n"
        f"from reluscope.cli import main; main({arguments})"
    )
    help_ = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert help_.endswith("LOADED\n")
    assert arguments == ["--help"] or "examples:\n  reluscope" in help_
