"""The study through a storage plugin: nodes share no disk, and every job works on copies of what it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import Clone

pytest.importorskip("snakemake_storage_plugin_fs", reason="snakemake-storage-plugin-fs is not installed")
if shutil.which("rsync") is None:
    pytest.skip("rsync, with which snakemake-storage-plugin-fs copies, is not installed", allow_module_level=True)


@pytest.mark.slow
def test_results_in_storage_are_those_of_a_shared_disk(
    finished: Clone, repository: Path, tmp_path: Path, bytes_below
) -> None:
    clone, shared = Clone(repository, tmp_path), tmp_path / "shared"
    storage = ["--default-storage-provider", "fs", "--default-storage-prefix", str(shared)]
    storage += ["--local-storage-prefix", str(tmp_path / "node")]
    storage += ["--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache"]
    assert f"made {shared}/results/figures/f.png" in clone.run(*storage)
    assert not (tmp_path / "results").exists()
    expected = finished.folder / "results"
    for file in ("scorecard.csv", "scorecard.md"):
        assert (shared / "results" / file).read_bytes() == (expected / file).read_bytes()
    assert (shared / "results/figures/f.png").read_bytes() == (expected / "figures/f.png").read_bytes()
    measures = sorted(expected.glob("runs/*/measures/*.zarr"))
    assert len(measures) == 9
    for measure in measures:
        assert bytes_below(shared / "results" / measure.relative_to(expected)) == bytes_below(measure)
    assert "Nothing to be done" in clone.run(*storage)
    shutil.rmtree(tmp_path / ".snakemake")
    assert "Nothing to be done" in clone.run(*storage)
    clone.edit("config.yaml", "study: tiny", "study: other")
    refused = clone.snakemake(*storage)
    assert refused.returncode
    assert f"{shared}/results/runs/a-seed0/weights.zarr belongs to the study 'tiny'" in refused.stdout
