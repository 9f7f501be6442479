"""What a config says of labels: which measures and figures go with them, and one clear line where one does not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_configs import CONFIG

from reluscope.study import ConfigError, Study, check, counting_settings

FIGURE = {"kind": "classes", "runs": ["a"], "measures": ["entropy_of_each_class"], "moments": [{"step": 0}]}


def config(labels: Any = None, measures: dict[str, Any] | None = None, figure: Any = None, **counting: Any) -> Any:
    made = copy.deepcopy(CONFIG)
    made["counting"] |= counting | ({} if labels is None else {"labels": labels})
    made["measures"] = measures or {}
    made["figures"] = {"f": figure} if figure else {}
    return made


def test_settings_are_named_only_where_labels_are_counted() -> None:
    for labels, expected in ((None, None), (False, None), (True, True), ("shuffled", "shuffled")):
        run = Study.from_config(config(labels)).runs["a-seed0"]
        assert counting_settings(run, next(iter(run.shards))).get("labels") == expected


def test_what_needs_labels_goes_with_them() -> None:
    Study.from_config(config(True, {"mutual_information": None}, FIGURE))
    Study.from_config(config("shuffled", {"mutual_information_of_shuffled_labels": None}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config(None, {"mutual_information": None}), "measures.mutual_information: needs counting.labels: true"),
        (config(None, None, FIGURE), "measures.entropy_of_each_class: needs counting.labels: true"),
        (
            config(True, {"mutual_information_of_shuffled_labels": None}),
            "measures.mutual_information_of_shuffled_labels: needs counting.labels: shuffled",
        ),
        (config(True, sample="1/4"), "counting.labels: does not go with counting.sample; take one of them away"),
        (
            config(True, None, {"runs": ["a"], "measures": ["entropy_of_each_class"]}),
            "figures.f: measures: heatmaps cannot show entropy_of_each_class, which has one value a class",
        ),
        (
            config(True, None, {**FIGURE, "measures": ["entropy"]}),
            "figures.f: measures: classes cannot show entropy, which has one value a layer",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Study.from_config(given)
    assert str(error.value) == message


@pytest.mark.parametrize("labels", [True, False, "shuffled"])
def test_the_schema_takes_labels(repository: Path, labels: Any) -> None:
    check(config(labels), yaml.safe_load((repository / "workflow/schemas/config.schema.yaml").read_text()))


def test_the_schema_says_what_labels_may_be(repository: Path) -> None:
    schema = yaml.safe_load((repository / "workflow/schemas/config.schema.yaml").read_text())
    with pytest.raises(
        ConfigError, match=r"^counting\.labels: unknown 'shuffle'; did you mean 'shuffled'\? allowed are "
    ):
        check(config("shuffle"), schema)
