"""Import paths: what they name, and which part an error names."""

from __future__ import annotations

import collections
import importlib
import json
import sys
from pathlib import Path

import pytest

from reluscope.imports import call, import_callable


def test_functions_classes_and_methods_are_found() -> None:
    assert import_callable("json:dumps") is json.dumps
    assert import_callable("collections:OrderedDict") is collections.OrderedDict
    assert import_callable("json.decoder:JSONDecoder.decode") is json.JSONDecoder.decode


def test_a_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_config.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert call("beside_the_config:double", {"x": 21}) == 42


def test_a_module_in_the_working_directory_is_never_taken_for_another_one(tmp_path: Path, monkeypatch) -> None:
    """As where Snakemake is started in one folder and works in another: which is meant is not guessed."""
    for folder in ("first", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "two_of_a_name.py").write_text(f"def where():\n    return {folder!r}\n")
    (tmp_path / "here" / "json.py").write_text("")  # what is installed comes first, as everywhere
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.path", [str(tmp_path / "first"), *sys.path])
    with pytest.raises(ValueError, match=r"here/two_of_a_name.py is hidden by .*first/two_of_a_name.py, which Python"):
        import_callable("two_of_a_name:where")
    assert import_callable("json:dumps") is json.dumps
    (tmp_path / "first" / "two_of_a_name.py").unlink()
    importlib.invalidate_caches()
    assert call("two_of_a_name:where", {}) == "here"


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("json.dumps", "expected package.module:name"),
        ("json:", "expected package.module:name"),
        ("../json:dumps", "expected package.module:name"),
        (7, "expected package.module:name"),
        ("no_such_package.module:name", "there is no package or module 'no_such_package'"),
        ("json.no_such_module:name", "there is no module 'json.no_such_module'"),
        ("json:dump_s", "json has no 'dump_s'; did you mean 'dumps'"),
        ("json.decoder:NaN", "expected a function or a class, but NaN is of type float"),
        ("broken_module:name", "importing broken_module raised ZeroDivisionError: division by zero"),
        ("needs_another:name", "importing needs_another raised ModuleNotFoundError: No module named 'not_installed'"),
    ],
)
def test_an_error_says_which_part_failed(path: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "needs_another.py").write_text("import not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"^import") as caught:
        import_callable(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_call_raises_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"import json:loads: loads\(s='\['\) raised JSONDecodeError: ") as caught:
        call("json:loads", {"s": "["})
    assert "\n" not in str(caught.value)
