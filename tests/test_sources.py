"""Which files a file depends on, as it is written now."""

from __future__ import annotations

import os
from pathlib import Path

from reluscope import sources


def test_an_edit_is_seen_by_the_process_that_read_the_file_before(tmp_path: Path) -> None:
    file = tmp_path / "measure.py"
    file.write_text("from reluscope.hints import did_you_mean\n\ndef one(counts): ...\n")
    assert [f.name for f in sources.closure(file)] == ["measure.py", "hints.py"]
    assert sources.functions(file) == {"one": (("counts",), ())}
    file.write_text("import reluscope.paths\n\ndef two(counts, most=1): ...\n")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000))  # where a file system's clock is coarse
    assert [f.name for f in sources.closure(file)] == ["measure.py", "paths.py"]
    assert sources.functions(file) == {"two": (("counts",), ("most",))}
