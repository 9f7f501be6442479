"""A config becomes runs, shards, measures and figures; every mistake in it is one line with the key and the way out."""

from __future__ import annotations

import math
import re
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from study_configs import CONFIG, changed

from reluscope.data.item_format import LAYOUTS
from reluscope.data.spec import DATASETS, DataSpec
from reluscope.study import ConfigError, Study, check, counting_settings, require_memory, resolve


@pytest.fixture(scope="module")
def schema(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "workflow/schemas/config.schema.yaml").read_text())


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
    assert set(made.measures_of("a-seed0")) == {"distinct_patterns", "entropy", "occupancy"}
    assert set(made.measures_of("b-seed0")) == {"entropy", "occupancy"}
    assert made.measures_of("b-seed0")["occupancy"].options == {"slots": 99}
    assert (made.runs["a-seed0"].title, made.runs["b-seed0"].title) == ("a", "B")
    figure = made.figures["f"]
    assert figure.runs == {"a": ["a-seed0", "a-seed7"]}
    assert (figure.kind, figure.measures, figure.caption) == ("heatmaps", ["distinct_patterns"], "C")
    assert figure.look == {"scale": "symlog"}


def steps_of(config: dict[str, Any], run: str) -> list[int]:
    return Study.from_config(config).runs[run].steps.tolist()


def test_what_figures_show_is_counted() -> None:
    """The union over the figures, with both ends; a run that none shows takes the default."""
    figures = {
        "f": {"runs": ["a"], "measures": ["entropy"], "steps": {"list": [1]}, "seeds": [7]},
        "g": {"runs": ["a"], "measures": ["appeared"], "steps": {"every": 1, "until": 3}, "seeds": [7]},
    }
    config = changed("figures", to=figures)
    assert steps_of(config, "a-seed7") == [0, 1, 2, 3, 6]
    assert steps_of(config, "a-seed0") == [0, 2, 4, 6]
    assert Study.from_config(config).figures["f"].runs == {"a": ["a-seed7"]}


def test_changes_are_between_the_checkpoints_that_a_figure_shows() -> None:
    """Where a figure leaves out counted steps, a measure of changes gets a store of its own; others are shared."""
    figures = {
        "coarse": {"runs": ["a"], "measures": ["appeared", "jaccard_to_final"], "steps": {"every": 3}},
        "fine": {"runs": ["a"], "measures": ["appeared", "jaccard_to_final"], "steps": {"every": 1, "until": 3}},
    }
    made = Study.from_config(changed("figures", to=figures))
    stores = made.measures_of("a-seed0")
    assert {name: spec.steps.tolist() for name, spec in stores.items() if spec.function == "appeared"} == {
        "appeared": [0, 1, 2, 3, 6],
        "appeared.coarse": [0, 3, 6],
    }
    assert made.measure_store("a-seed0", "appeared", "fine") == "appeared"
    assert stores["jaccard_to_final"].steps.tolist() == [0, 1, 2, 3, 6]
    assert "jaccard_to_final.coarse" not in stores


def test_profiles_name_their_runs_in_columns_and_their_steps_in_moments(schema) -> None:
    figure = {
        "kind": "profiles",
        "measures": ["entropy"],
        "columns": {"A": ["a"], "B": ["b"]},
        "moments": [{"step": 1}, {"share": 0.5}, {"share": 1.0}],
    }
    made = study(changed("figures", "f", to=figure), schema)
    assert list(made.figures["f"].runs) == ["a", "b"]
    assert made.figures["f"].steps["a-seed0"].tolist() == [1, 3, 6]
    assert made.runs["a-seed0"].steps.tolist() == [0, 1, 3, 6]


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"runs": ["a"], "moments": [{"step": 0}]}, "a key of heatmaps: unknown 'moments'"),
        ({"kind": "profiles", "runs": ["a"]}, "profiles need columns"),
        (
            {"kind": "profiles", "runs": ["a"], "columns": {"A": ["a"]}, "moments": [{"step": 0}]},
            "runs: do not go with columns, which name them",
        ),
        (
            {"kind": "profiles", "columns": {"A": ["a", "b"]}, "moments": [{"step": 0}]},
            "columns: 'A': expected runs of different depths, but got 'a' and 'b', both of 7 layers",
        ),
        (
            {"kind": "profiles", "columns": {"A": ["a"]}, "moments": [{"step": 0, "share": 0.5}]},
            "profiles: moments: expected either step or share, but got {'step': 0, 'share': 0.5}",
        ),
        (
            {"kind": "profiles", "columns": {"A": ["a"]}, "moments": [{"title": "start"}]},
            "profiles: moments: expected either step or share, but got {'title': 'start'}",
        ),
        ({"kind": "profiles", "columns": {"A": ["a"]}}, "profiles need moments"),
        (
            {"kind": "profiles", "columns": {"A": ["a"]}, "moments": [{"step": 0}], "steps": {"every": 2}},
            "steps do not go with moments",
        ),
        (
            {
                "kind": "profiles",
                "columns": {"A": ["a"]},
                "moments": [{"step": 0}],
                "measures": ["entropy", "appeared"],
            },
            "measures: profiles show one, got entropy, appeared",
        ),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_met_before_any_job(schema, figure: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"figures.f: {re.escape(message)}"):
        study(changed("figures", "f", to={"measures": ["entropy"], **figure}), schema)


class TestExtends:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "base.yaml").write_text("runs: {a: {network: resnet8}, b: {network: toynet8}}\nseeds: [1, 2]\n")
        (tmp_path / "over.yaml").write_text("extends: [base.yaml]\nruns: {a: {method: cyclic}, b: null}\n")
        (tmp_path / "loop.yaml").write_text("extends: [loop.yaml]\n")
        (tmp_path / "list.yaml").write_text("- 1\n")
        (tmp_path / "torn.yaml").write_text("study: x\na: [1,\n  2\n")
        (tmp_path / "tab.yaml").write_text("study: x\nruns:\n\ta: 1\n")
        (tmp_path / "alias.yaml").write_text("study: x\ndata: *there\n")
        (tmp_path / "binary.yaml").write_bytes(b"a: \xff\n")
        return tmp_path

    def test_mappings_merge_and_null_takes_away(self, folder: Path) -> None:
        resolved = resolve({"extends": ["over.yaml"], "seeds": [3]}, folder)
        assert resolved == {"runs": {"a": {"network": "resnet8", "method": "cyclic"}}, "seeds": [3]}

    @pytest.mark.parametrize(
        ("extends", "message"),
        [
            (["none.yaml"], r"extends: expected a file in .*base\.yaml.*, got 'none\.yaml'"),
            (["../x.yaml"], "got '../x.yaml'"),
            (["loop.yaml"], "extends: loop.yaml extends loop.yaml"),
            (["list.yaml"], "list.yaml: expected a mapping, got list"),
            (
                ["torn.yaml"],
                r"^extends: torn\.yaml: line 4: while parsing a flow sequence from line 2: .*expected ',' or",
            ),
            (["tab.yaml"], r"^extends: tab\.yaml: line 3: .* cannot start any token$"),
            (["alias.yaml"], r"^extends: alias\.yaml: line 2: found undefined alias$"),
            (["binary.yaml"], r"^extends: binary\.yaml: .*position 3$"),
            ("base.yaml", "expected a list of files, got 'base.yaml'"),
        ],
    )
    def test_refused(self, folder: Path, extends, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as error:
            resolve({"extends": extends}, folder)
        assert "\n" not in str(error.value)


def test_two_ways_to_name_a_network_are_one_setting(schema) -> None:
    short = study(changed("runs", "a", "network", to="resnet8"), schema)
    long = study(changed("runs", "a", "network", to={"name": "resnet", "depth": 8, "widths": [16, 32, 64]}), schema)
    assert short.runs["a-seed0"].spec.to_dict() == long.runs["a-seed0"].spec.to_dict()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stdy",), "x", "config: unknown key 'stdy'; did you mean 'study'?"),
        (("runs", "a", "netwrk"), "x", "runs.a: unknown key 'netwrk'; did you mean 'network'?"),
        (
            ("runs", "a", "network"),
            "resnt20",
            "runs.a: network: unknown family 'resnt' in 'resnt20'; did you mean 'resnet'?",
        ),
        (("runs", "a", "network"), "resnet9", "runs.a: depth: expected 6n + 2 (8, 14, 20, ...; nearest: 8 and 14)"),
        (("runs", "a", "method"), "cycle", "runs.a: method: unknown 'cycle'; did you mean 'cyclic'?"),
        (("runs", "a", "seeds"), [-1], "runs.a.seeds.0: expected at least 0, got -1"),
        (("runs",), {2024: {}}, "runs: expected text as a name, got 2024; write it in quotes"),
        (("runs",), {"b\n": {}}, "runs: expected a name without space around it, got 'b\\n'"),
        (
            ("runs", "a", "network"),
            {"import": "m:f", "arguments": {"day": date(2026, 1, 2)}},
            "runs.a.network.arguments.day: expected text, a number, a list or a mapping, got 2026-01-02",
        ),
        (("runs", "a", "seeds"), [4, 2, 3, 2], "runs.a.seeds: expected every entry once, got 2 more than once"),
        (("runs", "a", "seeds"), [], "runs.a.seeds: expected at least 1 entry, got none"),
        (("runs",), {}, "runs: expected at least 1 entry, got none"),
        (("runs", "a"), {"title": "A"}, "runs.a: missing key 'network'"),
        (
            ("runs", "../x"),
            {"network": "resnet8"},
            "runs: a name may hold letters, digits, - and _, and begins with a letter or digit, got '../x'",
        ),
        (("study",), "my study", "study: a name may hold letters, digits, - and _, and begins with a letter or digit"),
        (
            ("data", "name"),
            "cifar",
            "data.name: unknown 'cifar'; did you mean 'cifar10'? allowed are digits, cifar10, ",
        ),
        (("data", "images"), 99_999, "runs.a: data.images: expected at most 1500"),
        (("counting", "steps"), {"list": [7]}, "figures.f: steps.list: step 7 is beyond the last step, 6"),
        (("counting", "steps"), {"evry": 7}, "counting.steps: unknown key 'evry'; did you mean 'every'?"),
        (("counting", "batch_size"), "big", "counting.batch_size: expected a whole number, got 'big'"),
        (("counting", "batch_size"), None, "counting.batch_size: expected a whole number, got nothing"),
        (("counting", "batch_size"), True, "counting.batch_size: expected a whole number, got true"),
        (("counting", "batch_size"), "x" * 99, f"expected a whole number, got '{'x' * 59}..."),
        (("runs", "a", "network"), 8, "runs.a.network: expected text or a mapping, got 8"),
        (("counting", "sample"), 0.0625, "counting.sample: expected text, got 0.0625"),
        (
            ("counting", "sample"),
            "1/0",
            "counting.sample: expected 1/n with a whole number n from 2 to 999999, as in 1/16",
        ),
        (("methods", "stepwise", "decay"), 1.5, "methods.stepwise.decay: expected at most 1, got 1.5"),
        (
            ("methods", "stepwise", "milestones"),
            [0.5, 150],
            "milestones.1: expected less than 1, got 150; it is a fraction of the training, 0.5 for half",
        ),
        (
            ("methods", "stepwise", "milestones"),
            [0],
            "methods.stepwise.milestones.0: expected more than 0, got 0; it is a fraction of the training",
        ),
        (
            ("counting", "steps"),
            {"shares": [0.5, 3]},
            "counting.steps.shares.1: expected at most 1, got 3; it is a frac",
        ),
        (("counting", "steps"), {"every": 1, "list": [1]}, ", shares, got every and list"),
        (("methods", "stepwise", "epoch"), 3, "methods.stepwise: unknown key 'epoch'; did you mean 'epochs'?"),
        (("methods", "stepwise", "cycles"), 3, "methods.stepwise.cycles: not a setting of the stepwise schedule"),
        (
            ("methods", "own"),
            {"epochs": 3},
            "methods.own: a method under a new name needs schedule: stepwise, cyclic or one_cycle",
        ),
        (("measures", "entrpy"), None, "measures.entrpy: unknown measure 'entrpy'; did you mean 'entropy' or"),
        (("measures", "occupancy"), {"slot": 3}, "measures.occupancy: unknown option 'slot'; did you mean 'slots'?"),
        (
            ("measures", "occupancy"),
            {"slots": "many"},
            "measures.occupancy: slots: expected a whole number, got 'many'",
        ),
        (("figures", "f", "measures"), ["distinct"], "figures.f: unknown measure 'distinct'; did you mean 'distinct_"),
        (("figures", "f", "runs"), ["c"], "figures.f: run: unknown 'c'; allowed are a, b"),
        (("figures", "f", "runs"), ["a", "a"], "figures.f.runs: expected every entry once, got 'a' more than once"),
        (
            ("figures", "f", "kind"),
            "heatmap",
            "figures.f.kind: unknown 'heatmap'; did you mean 'heatmaps'? allowed are heatmaps, profiles",
        ),
        (("figures", "f", "time"), "hour", "figures.f.time: unknown 'hour'; allowed are epoch, step"),
        (("counting", "buffer_mb"), 64.0, "counting.buffer_mb: expected a whole number, got 64.0"),
        (("counting", "batch_size"), 64.0, "counting.batch_size: expected a whole number, got 64.0"),
        (("counting", "batch_size"), 1e308, "counting.batch_size: expected a whole number, got 1e+308"),
        (
            ("counting", "batch_size"),
            10**400,
            "counting.batch_size: expected a whole number within 64 bits, got one of",
        ),
        (("runs", "a", "seeds"), [1.0], "runs.a.seeds.0: expected a whole number, got 1.0"),
        (("data", "channels"), 1.0, "data.channels: expected a whole number, got 1.0"),
        (
            ("runs", "a", "seeds"),
            [2**63],
            "runs.a.seeds.0: expected at most 9223372036854775807, got 9223372036854775808",
        ),
        (("counting", "steps"), {"list": []}, "counting.steps.list: expected at least 1 entry, got none"),
        (("counting", "steps"), {"shares": []}, "counting.steps.shares: expected at least 1 entry, got none"),
        (("counting", "steps"), [], "counting.steps: expected at least 1 entry, got none"),
        (("figures", "f", "steps"), {}, "figures.f.steps: expected at least 1 entry, got none"),
        (("counting", "steps"), {"list": [10**22]}, "counting.steps.list.0: expected a whole number within 64 bits"),
        (("counting", "steps"), {"logarithmic": 2**31}, "counting.steps.logarithmic: expected at most 10000, got 2147"),
        (("methods", "stepwise", "epochs"), 2**31, "methods.stepwise.epochs: expected at most 1000000, got 2147483648"),
        (
            ("methods", "stepwise", "epochs"),
            10**6,
            "runs.a: checkpoints.every: 1 dumps 2,000,000 steps, expected at most",
        ),
        (("methods", "stepwise", "learning_rate"), math.inf, "learning_rate: expected at most 1000, got inf"),
        (
            ("methods", "stepwise", "learning_rate"),
            math.nan,
            "methods.stepwise.learning_rate: expected a number, got .nan",
        ),
        (("methods", "one_cycle"), {"div_factor": 0.5}, "methods.one_cycle.div_factor: expected at least 1, got 0.5"),
        (("data", "augmentation"), {"crop_padding": 2**31}, "crop_padding: expected at most 16384, got 2147483648"),
        (
            ("data", "augmentation"),
            {"crop_padding": 9},
            "runs.a: data.augmentation.crop_padding: expected at most 8, the images' shorter side, but got 9",
        ),
        (
            ("data", "test_images"),
            298,
            "runs.a: data.test_images: expected at most 297, the images there are, but got 298",
        ),
        (
            ("runs", "a", "network"),
            {"name": "resnet8", "widths": [1, 1, 10**9]},
            "widths.2: expected at most 65536, got",
        ),
        (
            ("runs", "a", "network"),
            {"name": "resnet8", "widths": [60_000, 60_000, 60_000]},
            "runs.a: network: its weights and a batch take more than 2,336 GB of memory, expected at most 1,100",
        ),
        (("runs", "a", "network"), "resnet2006", "runs.a: depth: expected at most 2000, but got 2006"),
        (("runs", "a", "network"), "resnet" + "8" * 900, "runs.a: depth: expected at most 2000, but got '8888"),
        (
            ("runs", "a", "layers"),
            {"include": ["stage4.*"]},
            "runs.a: layers.include: 'stage4.*' matches no layer; there are stage1.block0.activation1, ",
        ),
        (
            ("runs", "a", "layers"),
            {"exclude": ["*"]},
            "runs.a: layers.include, exclude: they leave no layer; there are ",
        ),
        (("runs", "a", "layers"), {"channel_axis": 0}, "runs.a: layers.channel_axis: expected 1, which holds the chan"),
        (("runs", "a", "layers"), {"channel_axis": {"*": -1}}, "runs.a: layers.channel_axis: expected 1, which holds"),
        (("measures", "occupancy"), {"slots": 0}, "measures.occupancy: slots: expected a whole number of at least 1"),
        (("study",), "x" * 101, "study: expected at most 100 characters, got 101: 'xxxx"),
        (("runs", "x" * 300), {"network": "resnet8"}, "runs: expected at most 100 characters, got 300: 'xxxx"),
        (("figures", "x" * 300), {"measures": ["entropy"]}, "figures: expected at most 100 characters, got 300: 'xxxx"),
        (("runs", "a", "title"), "x\x00", "runs.a.title: expected text, got the control character '\\x00' in 'x\\x00'"),
        (("runs", "a", "title"), "\ud83d", "runs.a.title: expected text, got the control character '\\ud83d'"),
    ],
)
def test_a_mistake_is_one_clear_line(schema, path, value, message) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError) as error:
        study(changed(*path, to=value), schema)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1_000
    assert time.process_time() - started < 1


def test_a_number_that_python_does_not_write_is_one_line(schema) -> None:
    with pytest.raises(
        ConfigError, match=r"^counting\.batch_size: expected a whole number within 64 bits, got one of 7"
    ):
        check(changed("counting", "batch_size", to=1 << 70_000), schema)
    with pytest.raises(ConfigError, match=r"^extends: expected a list of files, got a number of too many digits$"):
        resolve({"extends": 1 << 70_000}, Path())


def test_two_depths_in_a_column_are_those_of_what_is_counted(schema) -> None:
    figure = {"kind": "profiles", "columns": {"A": ["a", "b"]}, "moments": [{"step": 0}], "measures": ["entropy"]}
    config = changed("figures", "f", to=figure)
    config["runs"]["b"]["layers"] = {"exclude": ["stage1.*"]}
    assert study(config, schema).figures
    config["runs"]["a"]["layers"] = {"include": ["stage?.*"], "exclude": ["stage3.block0.activation2"]}
    with pytest.raises(ConfigError, match="both of 5 layers"):
        study(config, schema)


@pytest.mark.parametrize(("images", "batch_size", "counted"), [(9, 4, 9), (9, 9, 4), (1, 4, 4)])
def test_a_batch_that_batch_norm_cannot_normalise_is_met_before_any_job(
    schema, images: int, batch_size: int, counted: int, tmp_path: Path
) -> None:
    """Of images of 4 x 4 pixels the last stage sees 1 x 1 positions."""
    np.savez(tmp_path / "images.npz", images=np.ones((images, 3, 4, 4), np.float32), labels=np.arange(images) % 2)
    config = changed("data", to={"name": "arrays", "path": str(tmp_path / "images.npz"), "layout": "channels_first"})
    config["methods"]["stepwise"]["batch_size"] = batch_size
    config["methods"]["cyclic"] = {"batch_size": batch_size}
    config["counting"]["batch_size"] = counted
    with pytest.raises(ConfigError, match=rf"batch_size: \d leaves a batch of 1 of the {images} images"):
        study(config, schema)
    config["runs"] = {"a": {"network": "fixup_resnet8"}}
    config["figures"] = {}
    assert study(config, schema).runs


def test_memory_is_that_of_the_machine(schema) -> None:
    made = study(changed("runs", "a", "network", to={"name": "resnet8", "widths": [1000, 1000, 1000]}), schema)
    require_memory(made.runs.values(), 1 << 40)
    weights = 9 * (1000 + 6 * 1000**2)
    with pytest.raises(
        ConfigError, match=r"^runs\.a-seed0: network: its weights and a batch take more than 1 GB of memo"
    ):
        require_memory(made.runs.values(), 3 * 4 * weights)


@pytest.mark.parametrize(
    ("path", "written", "advice"),
    [
        (
            ("methods", "stepwise", "weight_decay"),
            "1e-4",
            "a number, got '1e-4'; YAML reads 1e-4 as text: write 1.0e-4",
        ),
        (("methods", "stepwise", "weight_decay"), "1.5E3", "YAML reads 1.5E3 as text: write 1.5e+3"),
        (("methods", "stepwise", "weight_decay"), "-2e-5", "YAML reads -2e-5 as text: write -2.0e-5"),
        (("methods", "stepwise", "weight_decay"), "'0.5'", "got '0.5'; in quotes it is text: write 0.5"),
        (("data", "images"), "1e3", "a whole number, got '1e3'; YAML reads 1e3 as text: write 1000"),
        (("data", "images"), "'5'", "a whole number, got '5'; in quotes it is text: write 5"),
    ],
)
def test_a_number_that_yaml_reads_as_text_comes_with_the_number_to_write(schema, path, written, advice) -> None:
    """The advice is taken as well: read as YAML, it is the number that was meant."""
    with pytest.raises(ConfigError) as error:
        check(changed(*path, to=yaml.safe_load(written)), schema)
    assert str(error.value).startswith(f"{'.'.join(path)}: expected a ")
    assert str(error.value).endswith(advice)
    number = yaml.safe_load(advice.rpartition("write ")[2])
    assert not isinstance(number, str)
    assert number == float(written.strip("'"))


@pytest.mark.parametrize(
    ("path", "written"),
    [
        (("data", "images"), "1e-4"),
        (("data", "images"), "ten"),
        (("runs", "a", "seeds"), "1e3"),
        (("methods", "stepwise", "nesterov"), "1e3"),
    ],
)
def test_what_is_no_such_number_comes_with_no_advice(schema, path, written) -> None:
    with pytest.raises(ConfigError, match=f"got '{written}'$"):
        check(changed(*path, to=written), schema)


def test_bounds_of_a_run_named_like_a_share_are_no_shares(schema) -> None:
    with pytest.raises(ConfigError, match=r"^runs\.shares\.seeds\.0: expected at least 0, got -1$"):
        check(changed("runs", "shares", to={"network": "resnet8", "seeds": [-1]}), schema)


def test_a_run_may_choose_its_own_layers(schema) -> None:
    """What is counted is a setting of the store where it is given, and no setting where it is not."""
    config = changed("counting", "layers", to={"include": ["stage1.*"], "channel_axis": {"*": -3}})
    config["runs"]["b"]["layers"] = {"exclude": ["activation"], "signs": True}
    runs = study(config, schema).runs
    settings = {name: counting_settings(run, next(iter(run.shards))) for name, run in runs.items()}
    assert settings["a-seed0"]["layers"] == {"include": ["stage1.*"], "channel_axis": {"*": -3}}
    assert settings["b-seed0"]["layers"] == {"exclude": ["activation"], "signs": True}
    plain = study(CONFIG, schema).runs["a-seed0"]
    assert "layers" not in counting_settings(plain, next(iter(plain.shards)))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"include": []}, r"^counting\.layers\.include: expected at least 1 entry, got none$"),
        ({"includes": ["a"]}, r"^counting\.layers: unknown key 'includes'; did you mean 'include'\?"),
        ({"channel_axis": {"a": "last"}}, r"^counting\.layers\.channel_axis\.a: expected a whole number, got 'last'$"),
    ],
)
def test_a_choice_of_layers_that_cannot_be_is_one_line(schema, layers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(changed("counting", "layers", to=layers), schema)


def test_every_pattern_of_the_schema_is_that_of_names(repository: Path) -> None:
    """The sentence about names answers any pattern that does not match."""
    text = (repository / "workflow/schemas/config.schema.yaml").read_text()
    assert set(re.findall(r"pattern: (.*)", text)) == {'"^[A-Za-z0-9][A-Za-z0-9_-]*$"'}


def test_a_measure_that_wants_every_pattern_is_met_before_any_job(schema, monkeypatch: pytest.MonkeyPatch) -> None:
    config = changed("counting", "sample", to="1/16")
    monkeypatch.setattr(
        "reluscope.measures._discovery.load_function", lambda name: lambda counts, slots=1: counts.counts.max()
    )
    with pytest.raises(ConfigError, match=r"^measures\.occupancy: does not go with counting\.sample, .*counts: only a"):
        study(config, schema)


def test_a_missing_image_folder_is_met_before_any_job(schema, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs\.a: data\.path: .*nowhere"):
        study(changed("data", to={"name": "imagefolder", "path": str(tmp_path / "nowhere")}), schema)


@pytest.mark.parametrize(
    ("shape", "dtype", "labelled", "message"),
    [
        ((12, 3, 8, 8), np.uint8, False, r"data: expected labels to train on, .*images\.npz' has none"),
        ((12, 16), np.int64, True, r"data: expected images .*images\.npz' holds int64 \[16\], which take a network"),
        (
            (12, 16),
            np.float32,
            True,
            r"data: expected images .*images\.npz' holds float32 \[16\], which take a network",
        ),
    ],
)
def test_data_that_a_run_cannot_train_on_are_met_before_any_job(
    schema, shape: tuple[int, ...], dtype: type, labelled: bool, message: str, tmp_path: Path
) -> None:
    labels = {"labels": np.arange(12) % 2} if labelled else {}
    np.savez(tmp_path / "images.npz", images=np.ones(shape, dtype), **labels)
    with pytest.raises(ConfigError, match=rf"^runs\.a: {message}"):
        study(changed("data", to={"name": "arrays", "path": str(tmp_path / "images.npz")}), schema)


def test_the_schema_has_every_key_of_the_data(schema) -> None:
    described = schema["$defs"]["data"]["properties"]
    assert described["name"]["enum"] == list(DATASETS)
    assert described["layout"]["enum"] == list(LAYOUTS)
    every = {"images": 1, "test_images": 1, "augmentation": {"flip": True, "crop_padding": 0}, "stream": True}
    for own in (
        {"name": "imagefolder", "path": "x", "resize": [8, 8], "channels": 3, "exif_orientation": True},
        {"name": "arrays", "path": "x", "layout": "channels_last"},
        {"import": "a:b", "arguments": {"x": 1}, "test_arguments": {}},
    ):
        check(changed("data", to=every | own), schema)
        DataSpec.from_config(every | own)
        described = {key: value for key, value in described.items() if key not in every | own}
    assert not described


@pytest.mark.parametrize("file", ["config.yaml", "workflow/studies/early.yaml", "workflow/studies/paper.yaml"])
def test_the_studies_that_come_along_fit_the_schema(schema, repository: Path, file: str) -> None:
    config = resolve(yaml.safe_load((repository / file).read_text()), repository / "workflow/studies")
    assert study(config, schema).figures
