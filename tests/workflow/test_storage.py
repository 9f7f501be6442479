"""The study through a storage plugin: nodes share no disk, and every job works on copies of what it reads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clone import CONFIG, Clone

from reluscope import build_network

pytestmark = pytest.mark.slow


def test_results_in_a_folder_are_those_of_a_shared_disk(
    finished: Clone, repository: Path, tmp_path: Path, bytes_below
) -> None:
    pytest.importorskip("snakemake_storage_plugin_fs", reason="snakemake-storage-plugin-fs is not installed")
    if shutil.which("rsync") is None:
        pytest.skip("rsync, with which snakemake-storage-plugin-fs copies, is not installed")
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


S3_SERVER = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
time.sleep(3600)
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket of a server on this machine, which Snakemake's plugin finds by the environment."""
    for plugin in ("snakemake_storage_plugin_s3", "snakemake_executor_plugin_cluster_generic", "moto", "flask"):
        pytest.importorskip(plugin, reason=f"{plugin} is not installed")
    boto3 = pytest.importorskip("boto3")
    server = subprocess.Popen([sys.executable, "-c", S3_SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        host, port = server.stdout.readline().split()
        for name, value in {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }.items():
            monkeypatch.setenv(name, value)
        yield boto3.resource("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").Bucket("studies")
    finally:
        server.kill()
        server.communicate()


def test_nodes_that_share_no_disk_make_the_same_through_s3_though_one_dies(
    bucket: Any, finished: Clone, repository: Path, tmp_path: Path, bytes_below: Callable[[Path], dict[str, bytes]]
) -> None:
    here, nodes = tmp_path / "here", tmp_path / "nodes"
    here.mkdir()
    nodes.mkdir()
    clone = Clone(repository, here)
    shown = "{runs: [a, b], measures: [distinct_patterns, weighted_jaccard_to_final]"
    assert shown in CONFIG
    small = CONFIG.replace(shown, "{runs: [a], measures: [weighted_jaccard_to_final]")
    clone.configure("\n".join(line for line in small.splitlines() if not line.startswith(OF_OTHERS)))
    subprocess.run("git init -q && git add -A", shell=True, cwd=clone.folder, check=True)  # tracked files travel
    storage = nodes_and_s3(nodes)
    printed = tmp_path / "printed"
    with printed.open("w") as output:
        snakemake = clone.start(*storage, printed=output)
    try:
        while not is_training(nodes / "0/log"):
            assert snakemake.poll() is None, printed.read_text()
            time.sleep(0.1)
        os.killpg(int((nodes / "0/session").read_text()), signal.SIGKILL)
        assert snakemake.wait(600) == 0, printed.read_text()
    finally:
        snakemake.kill()
        snakemake.wait()
    assert "Trying to restart job" in printed.read_text()
    assert len(list(nodes.iterdir())) == 5  # a training, once more, two counts, a measure

    below = "tiny/results/"
    stored = {o.key.removeprefix(below): o.get()["Body"].read() for o in bucket.objects.filter(Prefix=below)}
    measure = "runs/a-seed0/measures/weighted_jaccard_to_final.zarr"
    found = {name.removeprefix(f"{measure}/"): data for name, data in stored.items() if name.startswith(measure)}
    assert found == bytes_below(finished.folder / "results" / measure)
    assert stored["figures/f.png"].startswith(b"\x89PNG")
    assert not (clone.folder / "results/runs").exists()
    shutil.rmtree(clone.folder / ".snakemake")
    assert "Nothing to be done" in clone.run(*storage)


OF_OTHERS = ("  b:", "measures:", "  entropy:", "scorecard:")
"""Lines of the study that only other runs, measures and the scorecard need."""


def is_training(log: Path) -> bool:
    return log.exists() and "Training a-seed0" in log.read_text()


def nodes_and_s3(nodes: Path) -> list[str]:
    """Options that send jobs to nodes that share no disk, and results to the bucket."""
    command = f"{sys.executable} {Path(__file__).with_name('nodes.py')}"
    return [
        *("--default-storage-provider", "s3", "--default-storage-prefix", "s3://studies/tiny"),
        *("--shared-fs-usage", "none", "--job-deploy-sources", "--retries", "1", "--jobs", "2"),
        *("--executor", "cluster-generic", "--seconds-between-status-checks", "1"),
        *("--cluster-generic-submit-cmd", f"{command} submit {nodes}"),
        *("--cluster-generic-status-cmd", f"{command} status {nodes}"),
    ]


def test_checkpoint_files_that_nodes_cannot_read_are_told_before_any_job(
    bucket: Any, repository: Path, tmp_path: Path
) -> None:
    here, nodes = tmp_path / "here", tmp_path / "nodes"
    here.mkdir()
    nodes.mkdir()
    clone = Clone(repository, here)
    torch.save(build_network("resnet8", in_channels=1).state_dict(), here / "step_3.pt")
    clone.configure(
        "study: files\ndata: {name: digits, images: 100}\ncounting: {batch_size: 50}\n"
        "runs: {c: {network: resnet8, checkpoints: {files: '*.pt'}}}\nmeasures: {entropy: {}}\n"
    )
    subprocess.run("git init -q && git add -A", shell=True, cwd=here, check=True)
    refused = clone.snakemake(*nodes_and_s3(nodes))
    assert refused.returncode
    assert "runs.c: nodes that share no disk with this machine cannot read its checkpoint files" in refused.stdout
    assert not list(nodes.iterdir())
