"""A config becomes runs, shards, measures and figures; every mistake in it is one line with the key and the way out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from reluscope import paths
from reluscope.study import ConfigError, Study, changed_setting, check
from reluscope.training.loop import train

CONFIG: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "images": 100},
    "counting": {"steps": {"every": 2}, "shard_length": 4},
    "methods": {"stepwise": {"epochs": 3, "batch_size": 50}},
    "runs": {
        "a": {"network": "resnet8", "seeds": [0, 7]},
        "b": {"network": {"name": "convnet", "depth": 8, "activation": "prelu"}, "title": "B", "method": "cyclic"},
    },
    "measures": {"occupancy": {"slots": 99}, "entropy": None},
    "figures": {"f": {"runs": ["a"], "measures": ["distinct_patterns"], "caption": "C", "scale": "symlog"}},
}


@pytest.fixture(scope="module")
def schema(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "workflow/schemas/config.schema.yaml").read_text())


def changed(*path: str, to: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = to
    return config


def study(config: dict[str, Any], schema: dict[str, Any]) -> Study:
    check(config, schema)
    return Study.from_config(config)


def test_runs_shards_measures_and_figures(schema) -> None:
    made = study(CONFIG, schema)
    assert list(made.runs) == ["a-seed0", "a-seed7", "b-seed0"]
    assert made.runs["a-seed7"].spec.seed == 7
    assert made.runs["a-seed0"].shards == {"00000000-00000003": [0, 2], "00000004-00000007": [4, 6]}
    assert made.runs["b-seed0"].spec.method.schedule == "cyclic"
    assert made.runs["b-seed0"].spec.network["activation"] == "prelu"
    assert made.measures_of("a-seed0") == ["distinct_patterns", "entropy", "occupancy"]
    assert made.measures_of("b-seed0") == ["entropy", "occupancy"]
    figure = made.figures["f"]
    assert figure.runs == {"a": ["a-seed0", "a-seed7"]}
    assert (figure.kind, figure.measures, figure.caption) == ("heatmaps", ["distinct_patterns"], "C")
    assert figure.look == {"scale": "symlog"}


def test_two_ways_to_name_a_network_are_one_setting(schema) -> None:
    short = study(changed("runs", "a", "network", to="resnet8"), schema)
    long = study(changed("runs", "a", "network", to={"name": "resnet", "depth": 8, "widths": [16, 32, 64]}), schema)
    assert short.runs["a-seed0"].spec.to_dict() == long.runs["a-seed0"].spec.to_dict()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stdy",), "x", "config: unknown key 'stdy'; did you mean 'study'?"),
        (("runs", "a", "netwrk"), "x", "runs.a: unknown key 'netwrk'; did you mean 'network'?"),
        (("runs", "a", "network"), "resnt20", "runs.a: network: expected one of convnet, fixup_resnet"),
        (("runs", "a", "network"), "resnet9", "runs.a: depth: expected 6n + 2 (8, 14, 20, ...; nearest: 8 and 14)"),
        (("runs", "a", "method"), "cycle", "runs.a: unknown method 'cycle'; did you mean 'cyclic'?"),
        (("runs", "a", "seeds"), [-1], "runs.a.seeds.0: -1 is less than the minimum of 0"),
        (("runs", "a", "seeds"), [0, 0], "has non-unique elements"),
        (("runs", "../x"), {"network": "resnet8"}, "'../x' does not match"),
        (("data", "name"), "cifar", "data.name: got 'cifar'; did you mean 'cifar10'?"),
        (("data", "images"), 99_999, "runs.a: data.images: expected at most 1500"),
        (("counting", "steps"), {"list": [7]}, "runs.a: counting.steps.list: step 7 is beyond the last step, 6"),
        (("counting", "steps"), {"evry": 7}, "counting.steps: unknown key 'evry'; did you mean 'every'?"),
        (("counting", "batch_size"), "big", "counting.batch_size: expected integer, got 'big'"),
        (("methods", "stepwise", "epoch"), 3, "methods.stepwise: unknown key 'epoch'; did you mean 'epochs'?"),
        (("methods", "stepwise", "cycles"), 3, "methods.stepwise.cycles: not a setting of the stepwise schedule"),
        (
            ("methods", "own"),
            {"epochs": 3},
            "methods.own.schedule: expected one of stepwise, cyclic, one_cycle, got None",
        ),
        (("measures", "entrpy"), None, "did you mean entropy"),
        (("measures", "occupancy"), {"slot": 3}, "occupancy"),
        (("figures", "f", "measures"), ["distinct"], "figures.f: "),
        (("figures", "f", "runs"), ["c"], "figures.f: unknown run 'c'; allowed are a, b"),
        (("figures", "f", "kind"), "heatmap", "figures.f.kind: got 'heatmap'; did you mean 'heatmaps'?"),
        (("figures", "f", "scale"), "log", "figures.f.scale: got 'log'"),
    ],
)
def test_a_mistake_is_one_clear_line(schema, path, value, message) -> None:
    with pytest.raises(ConfigError) as error:
        study(changed(*path, to=value), schema)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_image_folder_is_met_before_any_job(schema, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs\.a: data\.path: .*nowhere"):
        study(changed("data", to={"name": "imagefolder", "path": str(tmp_path / "nowhere")}), schema)


def test_runs_of_a_figure_need_titles_of_their_own(schema) -> None:
    config = changed("figures", "f", "runs", to=["a", "b"])
    config["runs"]["a"]["title"] = "B"
    with pytest.raises(ConfigError, match=r"figures\.f\.runs: expected runs with different titles, got a, b"):
        study(config, schema)


def test_the_default_study_fits_its_schema(schema, repository: Path) -> None:
    made = study(yaml.safe_load((repository / "config.yaml").read_text()), schema)
    assert set(made.figures) == {"figure3", "figure4"}


class TestResultsOfAnotherConfig:
    @pytest.fixture
    def _trained(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        run = Study.from_config(CONFIG).runs["a-seed0"]
        final = Path(paths.weights(run.name))
        train(run.spec, Path(paths.partial(str(final))), final, study="tiny")

    @pytest.mark.usefixtures("_trained")
    def test_the_same_config_is_welcome(self) -> None:
        Study.from_config(CONFIG).check_results()

    @pytest.mark.usefixtures("_trained")
    def test_another_study_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"belongs to the study 'tiny', but the config is 'other'"):
            Study.from_config(changed("study", to="other")).check_results(recorded=["a-seed0"])

    @pytest.mark.usefixtures("_trained")
    def test_other_settings_are_refused_unless_retrained(self) -> None:
        other = Study.from_config(changed("methods", "stepwise", "epochs", to=2))
        with pytest.raises(ConfigError, match=r"was trained with method\.epochs: 3, but the config says 2"):
            other.check_results()
        other.check_results(recorded=["a-seed0"])


def test_changed_setting_names_the_first_difference() -> None:
    run = Study.from_config(CONFIG).runs["a-seed0"].spec
    assert changed_setting(run.to_dict(), run) is None
    assert changed_setting(run.to_dict() | {"seed": 4}, run) == "seed: 4, but the config says 0"
