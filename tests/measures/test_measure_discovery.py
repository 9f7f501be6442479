"""Measures are found in their files, one by one, and without registration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reluscope
from reluscope import measures
from reluscope.patterns import PatternCounts

PACKAGE = Path(reluscope.__file__).parent

STATES = ("initial", "final", "previous")

PAPER = {
    *("distinct_patterns", "pattern_changes", "net_pattern_changes", "most_frequent_pattern", "entropy"),
    *("relative_entropy", "weighted_jaccard_to_initial", "weighted_jaccard_to_final", "occupancy"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder of the measures in a copy of the package."""
    shutil.copytree(PACKAGE, tmp_path / "reluscope", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "reluscope" / "measures"


def run_python(code: str, folder: Path | None = None) -> Any:
    """What `code` prints as JSON in a fresh interpreter, which imports the package from `folder`."""
    path = folder.parents[1] if folder else PACKAGE.parent
    result = subprocess.run(
        [sys.executable, "-c", f"import json, sys\nfrom reluscope import measures\n{code}"],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_paper_s_measures_are_there() -> None:
    assert set(measures.names()) >= PAPER
    assert measures.names() == sorted(measures.names())


def test_every_measure_says_what_it_needs_and_does() -> None:
    for name in measures.names():
        measure = measures.find(name)
        assert measure.function is getattr(measures, name)
        assert measure.function.__name__ == name
        assert measure.summary
        assert measure.summary == (measure.function.__doc__ or "").splitlines()[0]
    assert measures.find("entropy").needs == frozenset()
    assert measures.find("pattern_changes").needs == {"previous"}
    assert measures.find("occupancy").options == {"slots": 30_000}


def test_functions_of_two_states_are_reachable_but_no_measures() -> None:
    assert {"weighted_jaccard", "jaccard"}.isdisjoint(measures.names())
    assert callable(measures.weighted_jaccard)
    assert "weighted_jaccard" in dir(measures)
    with pytest.raises(
        ValueError, match="'weighted_jaccard': the function exists, but is no measure: parameter 'other'"
    ):
        measures.find("weighted_jaccard")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown measure 'relative_entropi'; did you mean 'relative_entropy'"):
        measures.find("relative_entropi")
    with pytest.raises(
        ValueError, match=r"unknown measure 'nonsense'; allowed are appeared, .*, weighted_jaccard_to_previous$"
    ):
        measures.code("nonsense")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = measures.nonsense


def test_options_are_checked() -> None:
    measures.check_options("occupancy", {"slots": 5})
    with pytest.raises(ValueError, match=r"^slots: expected a whole number of at least 1, but got 0$"):
        measures.check_options("occupancy", {"slots": 0})
    measures.check_options("entropy", {})
    with pytest.raises(ValueError, match=r"unknown option 'slot'; did you mean 'slots'\? allowed is slots$"):
        measures.check_options("occupancy", {"slot": 5})
    with pytest.raises(ValueError, match=r"unknown option 'slots'; there is none to choose from$"):
        measures.check_options("entropy", {"slots": 5})
    with pytest.raises(ValueError, match="unknown option 'final'; there is none"):
        measures.check_options("jaccard_to_final", {"final": 5})


@pytest.mark.parametrize("value", ["many", "5", 5.0, True, None, [5]])
def test_an_options_value_has_the_type_of_its_default(value: object) -> None:
    with pytest.raises(ValueError, match=rf"^slots: expected a whole number, got {re.escape(repr(value))}$"):
        measures.check_options("occupancy", {"slots": value})


def test_a_whole_number_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def occupancy(counts: PatternCounts, slots: float = 0.5) -> float:
        return slots

    monkeypatch.setattr("reluscope.measures._discovery.load_function", lambda name: occupancy)
    measures.check_options("occupancy", {"slots": 1})
    measures.check_options("occupancy", {"slots": 1.5})
    with pytest.raises(ValueError, match=r"^slots: expected a number, got True$"):
        measures.check_options("occupancy", {"slots": True})


def edited(folder: Path, file: str, old: str, new: str) -> set[str]:
    """The measures of a copy whose code another one is after an edit of one of the package's files."""
    of_all = "print(json.dumps({name: measures.code(name) for name in measures.names()}))"
    before = run_python(of_all, folder)
    text = (folder.parent / file).read_text()
    assert old in text
    (folder.parent / file).write_text(text.replace(old, new))
    after = run_python(of_all, folder)
    return {name for name in after if after[name] != before.get(name)}


WEIGHTED = {f"weighted_jaccard_to_{state}" for state in STATES}
OF_SETS = {"appeared", "vanished", "pattern_changes", *(f"jaccard_to_{state}" for state in STATES)}


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("measures/entropy.py", "return counts.entropy", "return 1 * counts.entropy", {"entropy", "relative_entropy"}),
        ("measures/entropy.py", "entropy(counts) / largest", "entropy(counts) / 1", {"relative_entropy"}),
        ("measures/entropy.py", "Share of all positions", "The share of all positions", set()),
        ("measures/changes.py", "ratio([0, 0, 1]", "ratio([0, 0, 2]", {"vanished"}),
        ("measures/similarity.py", "return weighted_jaccard(counts, final)", "return 1", {"weighted_jaccard_to_final"}),
        ("measures/_matching.py", ".sum(dtype=np.int64))", ".sum(dtype=np.int64) + 0)", WEIGHTED),
        ("measures/_matching.py", "return shared,", "return 0 + shared,", OF_SETS),
        ("patterns.py", "return len(self.counts)", "return 0 + len(self.counts)", set(measures.names())),
        ("paths.py", '"results"', '"other"', set()),
    ],
)
def test_an_edit_changes_the_measures_that_use_it(copy: Path, file: str, old: str, new: str, changed: set[str]) -> None:
    assert edited(copy, file, old, new) == changed


@pytest.mark.parametrize("name", ["step", "class_name", "standard_error"])
def test_a_name_that_a_measures_store_has_for_something_else_is_no_measure(copy: Path, name: str) -> None:
    (copy / "own.py").write_text(f"def {name}(counts):\n    return 1.0\n")
    script = (
        "try:\n    measures.find(sys.argv[1])\nexcept ValueError as error:\n    print(json.dumps(str(error)))"
    ).replace("sys.argv[1]", repr(name))
    assert run_python(script, copy).endswith(f"is no measure: a measures store has another array '{name}'")


def test_naming_measures_imports_none_and_finding_one_imports_one() -> None:
    loaded = "[m for m in sys.modules if m.startswith('reluscope.measures.') and '._' not in m]"
    assert run_python(f"measures.names(); measures.code('entropy'); print(json.dumps({loaded}))") == []
    assert run_python(f"measures.find('entropy'); print(json.dumps({loaded}))") == ["reluscope.measures.entropy"]


def test_measuring_imports_neither_torch_nor_zarr() -> None:
    code = "[measures.find(name) for name in measures.names()]; print(json.dumps([m in sys.modules for m in %s]))"
    assert run_python(code % ["numpy", "torch", "zarr", "numba"]) == [True, False, False, False]


def test_a_new_measure_is_one_function_in_one_file(copy: Path) -> None:
    (copy / "rarity.py").write_text(
        "from .similarity import jaccard\n"
        "from reluscope.measures import weighted_jaccard, entropy\n"
        "def rarity(counts, initial, *, previous, at_most: int = 1):\n"
        '    """How rare.\n\n    More."""\n'
        "    return 1.0\n"
        "def _helper(counts): ...\n"
        "def no_default(counts, limit): ...\n"
        "def of_nothing(size=3): ...\n"
    )
    (copy / "_hidden.py").write_text("def hidden(counts): ...\n")
    found = run_python(
        "m = measures.find('rarity')\n"
        "about = [m.name, sorted(m.needs), m.options, m.summary, m.function(0, 0, previous=0)]\n"
        "print(json.dumps([measures.names(), *about]))",
        copy,
    )
    names, *measure = found
    assert set(names) - set(measures.names()) == {"rarity"}
    assert measure == ["rarity", ["initial", "previous"], {"at_most": 1}, "How rare.", 1.0]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import reluscope.measures.entropy",
        "from reluscope.measures.entropy import relative_entropy",
        "measures.names(); measures.find('relative_entropy')",
    ],
)
def test_a_function_keeps_its_name_where_its_file_is_named_alike(before: str) -> None:
    code = f"{before}\nfrom reluscope.measures import entropy\n"
    code += "print(json.dumps([entropy.__module__, measures.entropy is measures.find('entropy').function]))"
    assert run_python(code) == ["reluscope.measures.entropy", True]


@pytest.mark.parametrize(
    ("imports", "uses"),
    [
        ("from . import _helper", True),
        ("from ._helper import thing", True),
        ("from . import helped", True),
        ("from reluscope.measures import helped", True),
        ("from reluscope import measures", True),
        ("import reluscope.measures._helper, numpy", True),
        ("from ._helper import another", False),
        ("from . import jaccard", False),
    ],
)
def test_code_follows_each_form_of_import(copy: Path, imports: str, uses: bool) -> None:
    (copy / "_helper.py").write_text("def thing(): return 1\ndef another(): return 2\n")
    (copy / "helped.py").write_text("from ._helper import thing\ndef helped(counts): return thing()\n")
    (copy / "new.py").write_text(f"def new(counts):\n    {imports}\n")
    assert edited(copy, "measures/_helper.py", "return 1", "return 0") == {"helped", *(["new"] if uses else [])}


def test_one_name_in_two_files_is_refused(copy: Path) -> None:
    (copy / "again.py").write_text("def entropy(counts): ...\n")
    code = "try:\n    measures.names()\nexcept ValueError as error:\n    print(json.dumps(str(error)))"
    message = run_python(code, copy)
    assert message == f"measure 'entropy' is defined twice: {copy / 'again.py'} and {copy / 'entropy.py'}"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("return float((counts.counts <= 1).mean())", "counts: only a sample of the patterns is kept (`sample`)"),
        ("return len(counts.keys) / counts.num_distinct", "keys: only a sample of the patterns is kept (`sample`)"),
        ("return 1 - jaccard(counts, initial)", "unsupported operand type(s) for -: 'int' and 'Estimate'"),
        ("return counts.num_distinct / counts.num_positions", None),
        ("return jaccard(counts, initial)", None),
    ],
)
def test_a_measure_that_wants_every_pattern_is_refused_for_samples(copy: Path, code: str, reason: str | None) -> None:
    (copy / "new.py").write_text(f"from .similarity import jaccard\ndef new(counts, initial):\n    {code}\n")
    check = "try:\n    print(json.dumps(measures.check_sample('new', {})))"
    message = run_python(f"{check}\nexcept ValueError as error:\n    print(json.dumps(str(error)))", copy)
    start = "does not go with counting.sample, which keeps a share of the patterns: "
    assert message == (reason and start + reason)
