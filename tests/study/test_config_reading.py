"""What YAML's loaders take without a word is refused in one line that names the lines."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from reluscope.study import ConfigError, require_readable, resolve

_BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n" for before, after in itertools.pairwise("abcdefghi")
)

REFUSED = [
    (
        "seeds: [0]\nstudy: s\nseeds: [1]\n",
        "seeds is given on line 1 and again on line 3, of which YAML keeps the last; ",
    ),
    ("a: 1\nruns:\n  x: {y: 1}\nb: 2\nruns:\n  z: {}\n", "runs is given on line 2 and again on line 5"),
    ("runs:\n  x: {network: a, network: b}\n", "runs.x.network is given twice on line 2"),
    ("runs:\n  - {}\n  - x: 1\n    'x': 2\n", "runs.x is given on line 3 and again on line 4"),
    ('{"study": "a",\n\t"runs": {"b": 1,\n\t"b": 2}}', "runs.b is given on line 2 and again on line 3"),
    ("a: &x {b: *x}\n", "line 1: the alias *x stands within what it means"),
    (_BOMB, "line 6: expected at most 1,000,000 entries, its aliases make more"),
    ("a: [1,\n", "line 2: while parsing"),
    ("[" * 100_000, "line 1: expected at most 100 lists and mappings within each other"),
    ("a: 1\n---\nb: 1\n", "line 2: expected a single document"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_in_a_config_and_in_what_it_extends(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    for read in (lambda: require_readable(file), lambda: resolve({"extends": ["config.yaml"]}, tmp_path)):
        started = time.process_time()
        with pytest.raises(ConfigError) as error:
            read()
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "text",
    [
        "study: s\nruns: {x: {a: 1}, y: {a: 1}}\n",
        "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\n",
        "x: &x {a: 1}\nz: &z {b: 1}\ny: {<<: *x, <<: *z}\n",
        "x: &x [1, 2]\ny: [*x, *x]\n",
        "",
    ],
)
def test_what_loses_nothing_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    require_readable(tmp_path / "config.yaml")


def test_numbers_without_end_in_a_part(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(f"seeds: [{'9' * 5_000}]\n")
    with pytest.raises(ConfigError, match=r"^extends: part\.yaml: Exceeds the limit"):
        resolve({"extends": ["part.yaml"]}, tmp_path)


@pytest.mark.parametrize("name", ["", "\0", "x" * 5_000, "/", "~"])
def test_names_that_no_file_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^extends: expected a file in ") as error:
        resolve({"extends": [name]}, tmp_path)
    assert len(str(error.value)) < 1_000
