"""The real workflow on a tiny study: from nothing to figures, and what it says on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray
from clone import CONFIG, Clone


def test_everything_is_made(finished: Clone) -> None:
    results = finished.folder / "results"
    assert (results / "figures/f.png").stat().st_size > 10_000
    assert (results / "figures/f.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in (results / "runs").iterdir()) == ["a-seed0", "b-seed0", "b-seed1"]
    assert not list(results.rglob("*.partial"))


def test_every_store_opens_in_xarray_with_names_and_coordinates(finished: Clone) -> None:
    run = finished.folder / "results/runs/b-seed1"
    weights = xarray.open_zarr(run / "weights.zarr")
    assert weights.parameters.dims == ("parameter", "step")
    assert weights.step.values.tolist() == [0, 1, 2, 3, 4]
    assert weights.test_accuracy.dropna("evaluated_step").evaluated_step.values.tolist() == [2, 4]
    shards = sorted((run / "counts").glob("*.zarr"))
    assert [s.name for s in shards] == ["00000000-00000002.zarr", "00000003-00000005.zarr"]
    counts = xarray.open_zarr(shards[0])
    assert counts.distinct_patterns.dims == ("step", "layer")
    assert counts.layer_name.values[0] == "stage1.block0.activation1"
    measure = xarray.open_zarr(run / "measures/weighted_jaccard_to_final.zarr")
    assert set(measure.weighted_jaccard_to_final.coords) == {"step", "epoch", "layer", "layer_name", "stage"}
    assert measure.weighted_jaccard_to_final.dtype == np.float64
    assert (measure.weighted_jaccard_to_final.sel(step=4) == 1).all()


def test_the_distinct_patterns_are_those_counted(finished: Clone) -> None:
    run = finished.folder / "results/runs/a-seed0"
    counted = [xarray.open_zarr(s).distinct_patterns for s in sorted((run / "counts").glob("*.zarr"))]
    measured = xarray.open_zarr(run / "measures/distinct_patterns.zarr").distinct_patterns
    np.testing.assert_array_equal(np.concatenate(counted), measured)


def test_the_measures_of_a_run_share_one_pass_over_its_counts(finished: Clone) -> None:
    """Each layer was taken by one of the run's three jobs, and nothing that they shared is left."""
    for run, num_measures in (("a-seed0", 3), ("b-seed0", 3), ("b-seed1", 3)):
        logs = (finished.folder / "results/logs/measure" / run).glob("*.log")
        taken = [line.split(": ") for log in logs for line in log.read_text().splitlines() if line.startswith("layer ")]
        assert sorted(layer for layer, _ in taken) == [f"layer {k} of 7" for k in range(1, 8)]
        assert {len(names.split(", ")) for _, names in taken} == {num_measures}
    assert not list((finished.folder / "results").rglob("*.partial"))


def test_nothing_is_left_to_do(finished: Clone) -> None:
    assert finished.planned() == set()


def test_settings_changed_without_snakemakes_memory_stop(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".snakemake")
    clone.edit("config.yaml", "epochs: 2", "epochs: 3")
    stopped = clone.snakemake()
    assert stopped.returncode != 0
    assert "was made with method.epochs: 2, but now it is 3" in stopped.stdout


def test_results_of_another_study_are_kept(clone: Clone) -> None:
    clone.edit("config.yaml", "study: tiny", "study: other")
    stopped = clone.snakemake()
    assert stopped.returncode != 0
    assert "belongs to the study 'tiny', but the config is 'other'" in stopped.stdout
    assert (clone.folder / "results/runs/a-seed0/weights.zarr/zarr.json").is_file()


def test_a_training_begun_elsewhere_goes_on_with_a_key_of_the_command_line(clone: Clone) -> None:
    """Without it, one line says so and nothing is lost; and the key makes nothing again."""
    assert clone.planned("--config", "resume_elsewhere=true") == set()
    target = "results/runs/a-seed0/weights.zarr"
    shutil.rmtree(clone.folder / target)
    begin = (
        "from reluscope.stages import training; from reluscope.study import Study; import yaml, torch\n"
        "from reluscope.training import loop; from reluscope.checkpoints import writer\n"
        "loop.machine = lambda _: {'device': 'A100', 'threads': None}\n"
        "writer.SAVE_SECONDS, append = -1.0, writer.WeightsWriter.append\n"
        "def stop(self, *given): self._num_dumped == 3 and exit(); append(self, *given)\n"
        "writer.WeightsWriter.append = stop\n"
        "study = Study.from_config(yaml.safe_load(open('config.yaml')))\n"
        f"training.train_run(study.runs['a-seed0'], {target!r}, study=study.name, threads=1)"
    )
    subprocess.run([sys.executable, "-c", begin], cwd=clone.folder, env=clone.environment, check=True)
    kept = clone.folder / "results/runs/a-seed0/weights.partial/state.pt"
    stopped = clone.snakemake(target)
    assert stopped.returncode != 0
    assert "unfinished training with device: A100, but now it is cpu" in stopped.stdout
    assert "--config resume_elsewhere=true" in stopped.stdout
    assert kept.exists()
    clone.run(target, "--config", "resume_elsewhere=true")
    attributes = json.loads((clone.folder / target / "zarr.json").read_text())["attributes"]
    assert attributes["device"] == "A100"
    assert [change["device"] for change in attributes["resumed"]] == ["cpu"]
    assert not kept.exists()


def test_a_study_given_on_the_command_line_stands_for_itself(clone: Clone) -> None:
    (clone.folder / "own.yaml").write_text(
        CONFIG.replace("runs: [a, b]", "runs: [b]").replace("  a: {network: resnet8}\n", "")
    )
    printed = clone.run("--dry-run", "--configfile", "own.yaml", "--forceall")
    assert "b-seed0" in printed
    assert "a-seed0" not in printed


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("study: tiny", "study: tiny\nepochs: 3", "config: unknown key 'epochs'"),
        (
            "study: tiny",
            "study: tiny\nstudy: tiny",
            "config.yaml: study is given on line 2 and again on line 3, of which",
        ),
        ("{per_epoch: 1}", "{logarithmic: 2147483648}", "counting.steps.logarithmic: expected at most 10000"),
        (
            "network: resnet8",
            "network: {name: resnet8, widths: [20000, 20000, 20000]}",
            "runs.a-seed0: network: its weights",
        ),
        ("network: resnet8", "network: resnet9", "runs.a: depth: expected 6n + 2"),
        ("{per_epoch: 1}", "{list: [99]}", "step 99 is beyond the last step, 4"),
        ("entropy", "entropie", "did you mean"),
        ("name: digits", "name: imagefolder, path: nowhere", "runs.a: data.path"),
    ],
)
def test_a_mistake_stops_before_any_job(clone: Clone, old: str, new: str, message: str) -> None:
    clone.edit("config.yaml", old, new)
    stopped = clone.snakemake()
    assert stopped.returncode != 0
    assert message in stopped.stdout
    assert "Traceback" not in stopped.stdout
    assert "Select jobs" not in stopped.stdout
    assert [line for line in stopped.stdout.splitlines() if line.startswith("config.yaml: ")]


@pytest.mark.parametrize("given", ["own.yaml", "own.json"])
def test_a_key_that_is_given_twice_stops_a_study_of_the_command_line(clone: Clone, given: str) -> None:
    twice = CONFIG.replace("\nruns:", "\nruns:\n  c: {network: toynet8}\nruns:")
    (clone.folder / given).write_text(twice if given.endswith("yaml") else '{"a": 1,\n"a": 2}')
    stopped = clone.snakemake("--dry-run", "--configfile", given)
    assert stopped.returncode != 0
    line = next(line for line in stopped.stdout.splitlines() if " is given on line " in line)
    assert line.endswith(", of which YAML keeps the last; take one away")
    assert "Traceback" not in stopped.stdout


def test_a_failing_job_says_why_in_one_line(clone: Clone) -> None:
    chunk = next((clone.folder / "results/runs/a-seed0/weights.zarr/parameters/c").rglob("0"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    os.utime(chunk, (0, 0))
    clone.edit("config.yaml", "batch_size: 50, steps", "batch_size: 20, steps")
    stopped = clone.snakemake("--until", "count", "--keep-going")
    assert stopped.returncode != 0
    assert "checksum" in stopped.stdout
    log = clone.folder / "results/logs/count/a-seed0/00000000-00000002.log"
    assert "checksum" in log.read_text()


def test_the_report_holds_figures_captions_and_scorecard(clone: Clone) -> None:
    clone.run("--report", "report.zip")
    with zipfile.ZipFile(clone.folder / "report.zip") as report:
        names = {Path(name).name for name in report.namelist()}
        assert {"f.png", "report.html"} <= names
        page = report.read(next(name for name in report.namelist() if name.endswith("report.html"))).decode()
    assert "each small picture is one run" in page
    assert "The claims of Hartmann" in page


def test_another_study_is_planned_beside_finished_results(clone: Clone) -> None:
    (clone.folder / "own.yaml").write_text(CONFIG.replace("study: tiny", "study: other"))
    printed = clone.run("plan", "--configfile", "own.yaml")
    assert "What the study 'other' costs" in printed
    assert re.search(r"everything, once +3 +12 +9 ", printed)
    assert "made" not in printed.split("100%")[-1]


def test_a_python_without_assertions_stops_in_one_line(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    stopped = clone.snakemake("--dry-run")
    assert stopped.returncode != 0
    assert "Python runs without assertions (PYTHONOPTIMIZE is set, or -O was given)" in stopped.stdout
    assert "Traceback" not in stopped.stdout
    assert "File " not in stopped.stdout


def test_a_folder_named_plan_is_checked_like_any_other(clone: Clone) -> None:
    """Only the target of that name reads no results."""
    (clone.folder / "plan").mkdir()
    shutil.move(clone.folder / "results", clone.folder / "plan/results")
    clone.edit("config.yaml", "study: tiny", "study: other")
    for arguments in (["--directory", "plan"], ["--directory", "plan", "--", "plan", "all"]):
        stopped = clone.snakemake(*arguments)
        assert stopped.returncode != 0
        assert "belongs to the study 'tiny', but the config is 'other'" in stopped.stdout
    assert "What the study 'other' costs" in clone.run("--directory", "plan", "plan")


def test_what_snakemake_remembers_of_long_names_is_found(clone: Clone) -> None:
    """Its records of them are longer than a file's name may be, and lie in folders."""
    run, figure = ("".join(f"{name}{i}" for i in range(40))[:length] for name, length in (("run", 90), ("figure", 100)))
    shown = f"  {figure}: {{runs: [{run}], steps: {{list: [0, 4]}}, measures: [net_pattern_changes]}}\n"
    config = CONFIG.replace("\nmeasures:", f"\n  {run}: {{network: resnet8}}\nmeasures:") + shown
    clone.configure(config.replace("runs: [a, b]", f"runs: [a, b, {run}]"))
    made = f"results/runs/{run}-seed0/measures/net_pattern_changes.{figure}.zarr"
    clone.run(made)
    clone.edit("config.yaml", "scorecard: true", "scorecard: true\nkeep_nan: true")
    assert made.removeprefix("results/") in clone.planned(made)
    shutil.rmtree(clone.folder / ".snakemake")
    stopped = clone.snakemake("--dry-run", made)
    assert stopped.returncode != 0
    assert "was made with keep_nan: None, but now it is True" in stopped.stdout


def test_the_scorecard_waits_for_the_measures_it_reads(clone: Clone) -> None:
    """Claims are about networks of depth 20, of which the tiny study has none."""
    assert not [made for made in clone.planned("--forceall", "results/scorecard.csv") if "/measures/" in made]
    clone.configure(CONFIG.replace("resnet8", "resnet20"))
    assert len([made for made in clone.planned("--forceall", "results/scorecard.csv") if "/measures/" in made]) > 3


def test_a_part_of_the_study_names_only_what_it_made(clone: Clone) -> None:
    shutil.rmtree(clone.folder / "results")
    shutil.rmtree(clone.folder / ".snakemake")
    printed = clone.run("results/runs/a-seed0/weights.zarr")
    assert "made" not in printed.split("100%")[-1]


def test_a_study_may_live_elsewhere(clone: Clone, tmp_path: Path) -> None:
    planned = clone.planned("--directory", str(tmp_path / "elsewhere"))
    assert {f"runs/{run}/weights.zarr" for run in ("a-seed0", "b-seed0", "b-seed1")} <= planned


@pytest.mark.slow
def test_a_killed_workflow_goes_on_where_it_was(clone: Clone, bytes_below) -> None:
    """Snakemake and its jobs killed in the middle of a training; the store ends as one that was never killed."""
    clone.configure(CONFIG.replace("epochs: 2", "epochs: 300").replace("every: 1", "every: 2"))
    target = "results/runs/a-seed0/weights.zarr"
    shutil.rmtree(clone.folder / "results")
    shutil.rmtree(clone.folder / ".snakemake")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target]
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env=clone.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    saved = clone.folder / "results/runs/a-seed0/weights.partial/state.pt"
    while process.poll() is None and not saved.exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert saved.exists()
    clone.run("--unlock")
    clone.run(target)
    assert "continues after step" in (clone.folder / "results/logs/train/a-seed0.log").read_text()
    whole = bytes_below(clone.folder / target)
    clone.run("--forcerun", "train", "--", target)
    assert bytes_below(clone.folder / target) == whole


def test_lint_finds_nothing(finished: Clone) -> None:
    assert "Congratulations, your workflow is in a good condition!" in finished.run("--lint")
