"""Which edits change the digest of a function: those of what it uses, and no others."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from reluscope.source_digest import digest

MEASURES = '''
    """Two measures."""
    import math
    from os import path, sep

    LIMIT = 5
    UNUSED = 6

    def one(counts):
        """What it is."""
        return helper(counts) * LIMIT  # times five

    def helper(counts):
        return len(sep)

    def two(counts):
        return path.join(math.pi)
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a package of its own."""
    for module in ("sources", "source_digest"):
        monkeypatch.setattr(f"reluscope.{module}.ROOT", tmp_path / "reluscope")
    path = tmp_path / "reluscope" / "measures.py"
    path.parent.mkdir()
    write(path, MEASURES)
    return path


def write(path: Path, text: str) -> None:
    """A file that is seen to be newer, where a file system's clock is coarse, too."""
    modified = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(textwrap.dedent(text))
    os.utime(path, ns=(0, modified + 1_000_000))


def edited(file: Path, old: str, new: str) -> set[str]:
    """The functions whose digest an edit changes."""
    before = {name: digest(file, name) for name in ("one", "two")}
    assert file.read_text().count(old) == 1
    write(file, file.read_text().replace(old, new))
    return {name for name, then in before.items() if digest(file, name) != then}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("* LIMIT", "+ LIMIT", {"one"}),
        ("return len", "return 2 * len", {"one"}),
        ("LIMIT = 5", "LIMIT = 7", {"one"}),
        ("UNUSED = 6", "UNUSED = 7", set()),
        ("path.join", "path.abspath", {"two"}),
        ("import math", "import cmath as math", {"two"}),
        ("from os import path, sep", "from os import path\nfrom os import linesep as sep", {"one"}),
        ("What it is", "What it was", set()),
        ("# times five", "# five times", set()),
        ("import math", "import math\n\n", set()),
        ("UNUSED = 6", "if LIMIT:\n    print()", {"one", "two"}),
        ("UNUSED = 6", "try:\n    import json\nexcept ImportError:\n    json = None", set()),
        ("UNUSED = 6", "try:\n    import json\nexcept ImportError:\n    LIMIT = 7", {"one"}),
        ("UNUSED = 6", "for LIMIT in (7, 8):\n    pass", {"one"}),
        ("UNUSED = 6", "UNUSED = [LIMIT := 7]", {"one"}),
        ("UNUSED = 6", "with open(sep) as LIMIT:\n    pass", {"one"}),
        ("UNUSED = 6", "path.join = min", {"two"}),
    ],
)
def test_an_edit_changes_what_uses_it(file: Path, old: str, new: str, changed: set[str]) -> None:
    assert edited(file, old, new) == changed


HELPERS = """
    class Base:
        size = 1

    class Helper(Base):
        def size_of(self): return self.size

    def other(): return 1
"""


@pytest.mark.parametrize(
    "how",
    [
        "from reluscope.helpers import Helper as helper, other",
        "from .helpers import Helper as helper, other",
        "if True:\n    from .helpers import Helper as helper\nother = 1",
        "def helper(counts):\n    from .helpers import Helper\n    return Helper",
    ],
)
def test_what_another_file_defines_is_followed_by_name(file: Path, how: str) -> None:
    write(file.parent / "helpers.py", HELPERS)
    write(file, f"{how}\ndef one(counts): return helper(counts)\ndef two(counts): return 3\n")
    helpers = file.parent / "helpers.py"

    def changed(old: str, new: str) -> set[str]:
        before = {name: digest(file, name) for name in ("one", "two")}
        write(helpers, helpers.read_text().replace(old, new))
        return {name for name, then in before.items() if digest(file, name) != then}

    assert changed("size = 1", "size = 2") == {"one"}
    assert changed("return self.size", "return 2 * self.size") == {"one"}
    assert changed("def other(): return 1", "def other(): return 2") == set()


@pytest.mark.parametrize(
    "how",
    [
        "import reluscope.helpers as helpers",
        "from reluscope import helpers",
        "from reluscope.helpers import *\nhelpers = None",
        "import reluscope\nhelpers = reluscope.helpers",
        "import reluscope as package\nhelpers = package.helpers",
    ],
)
def test_a_module_imported_as_a_whole_is_all_of_it(file: Path, how: str) -> None:
    write(file.parent / "helpers.py", HELPERS)
    write(file, f"{how}\ndef one(counts): return helpers.other()\n")
    before = digest(file, "one")
    write(file.parent / "helpers.py", HELPERS.replace("size = 1", "size = 2"))
    assert digest(file, "one") != before
