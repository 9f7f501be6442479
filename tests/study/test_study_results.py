"""Results that an earlier config left are taken only by configs that would make the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from study_configs import CONFIG, changed

from reluscope import paths
from reluscope.stages.counting import count_shard
from reluscope.stages.measuring import measure_run
from reluscope.stages.training import train_run
from reluscope.study import ConfigError, Study, check_results


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of CONFIG trained, counted and measured."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Study.from_config(CONFIG)
        run = made.runs["a-seed0"]
        train_run(run, paths.weights(run.name), study="tiny", threads=1)
        stores = [paths.counts(run.name, shard) for shard in run.shards]
        for shard, store in zip(run.shards, stores, strict=True):
            count_shard(run, shard, paths.weights(run.name), store, threads=1)
        measure_run({paths.measure(run.name, "occupancy"): made.measures_of(run.name)["occupancy"]}, stores)
    return folder


class TestResultsOfAnotherConfig:
    """A run trained, counted and measured, then met by other configs."""

    STORES = ("results/runs/a-seed0/weights.zarr", "results/runs/a-seed0/counts/00000000-00000003.zarr")

    @pytest.fixture(autouse=True)
    def _here(self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(made, tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy")

    def test_the_same_config_is_welcome(self) -> None:
        check_results(Study.from_config(CONFIG))

    def test_more_of_the_same_is_welcome(self) -> None:
        check_results(Study.from_config(changed("runs", "a", "seeds", to=[0, 7, 8])))

    @pytest.mark.parametrize("runs", [CONFIG["runs"], {"other": {"network": "resnet8"}}])
    def test_another_study_is_refused(self, runs) -> None:
        config = {**changed("study", to="other"), "runs": runs, "figures": {}}
        with pytest.raises(ConfigError, match=r"belongs to the study 'tiny', but the config is 'other'"):
            check_results(Study.from_config(config), remembered=lambda store: True)

    @pytest.mark.parametrize(
        ("path", "to", "message"),
        [
            (("methods", "stepwise", "epochs"), 2, "weights.zarr was made with method.epochs: 3, but now it is 2"),
            (("methods", "stepwise", "decay"), 0.5, "weights.zarr was made with method.decay: 0.1, but now it is 0.5"),
            (("counting", "batch_size"), 20, "zarr was made with batch_size: 128, but now it is 20"),
            (("counting", "sample"), "1/16", "zarr was made with sample: None, but now it is 1/16"),
            (
                ("counting", "layers"),
                {"include": ["*"]},
                "zarr was made with layers: None, but now it is {'include'",
            ),
            (("counting", "labels"), True, "zarr was made with labels: None, but now it is True"),
            (("counting", "steps"), {"every": 1}, "zarr was made with steps: [0, 2], but now it is [0, 1, 2, 3]"),
            (("measures", "occupancy"), {"slots": 7}, "zarr was made with options.slots: 99, but now it is 7"),
        ],
    )
    def test_other_settings_are_refused_unless_made_again(self, path, to, message: str) -> None:
        other = Study.from_config(changed(*path, to=to))
        with pytest.raises(ConfigError) as error:
            check_results(other)
        assert message in str(error.value)
        check_results(other, remembered=lambda store: True)

    def test_a_sample_is_not_taken_for_all(self) -> None:
        sampled = Study.from_config(changed("counting", "sample", to="1/4"))
        run = sampled.runs["a-seed0"]
        shard = next(iter(run.shards))
        count_shard(run, shard, paths.weights(run.name), paths.counts(run.name, shard), threads=1)
        with pytest.raises(ConfigError, match=r"03\.zarr was made with sample: 1/4, but now it is None"):
            check_results(Study.from_config(CONFIG))
        with pytest.raises(ConfigError, match=r"07\.zarr was made with sample: None, but now it is 1/4"):
            check_results(sampled)

    @pytest.mark.parametrize("store", STORES)
    @pytest.mark.parametrize(
        ("content", "message"),
        [("{", "is damaged"), ("{}", "is damaged"), ('{"attributes": {}}', "it is a foreign one")],
    )
    def test_damage_is_one_line(self, store: str, content: str, message: str) -> None:
        Path(store, "zarr.json").write_text(content)
        with pytest.raises(ConfigError, match=message) as error:
            check_results(Study.from_config(CONFIG))
        assert store in str(error.value)
        assert "\n" not in str(error.value)
