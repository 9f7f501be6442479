"""`--profile profiles/slurm` on a real Slurm: a node and a job die midway, and the measures are those of a local run.

    pip install -e '.[test]' -c envs/constraints.txt && pytest -m slow tests/cluster

Needs root and Debian's packages (`local_slurm.PACKAGES`); skipped elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from local_slurm import Cluster, Job, missing, query, running_cluster, wait_until

from reluscope import paths

STUDY = """
study: tiny
data: {name: digits, images: 100, test_images: 50}
checkpoints: {every: 2}
counting: {batch_size: 50, steps: {shares: [0.5]}, shard_length: 10000}
methods:
  stepwise: {epochs: 120, batch_size: 20}
runs:
  a: {network: resnet8}
  b: {network: convnet8}
figures:
  f: {runs: [a, b], measures: [entropy, weighted_jaccard_to_final]}
"""

RUNS = ("a-seed0", "b-seed0")

OF_THIS_CLUSTER = (
    "--slurm-status-command=squeue",  # there is no accounting
    "--slurm-init-seconds-before-status-checks=3",
    "--latency-wait=5",
    "--set-threads",  # on the command line, so that nothing of the workflow is touched
    "train=1",
    "count=1",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if why_not := missing():
        pytest.skip(f"no Slurm: {why_not}")
    with running_cluster() as cluster:
        yield cluster


class TinyStudy:
    """The study in a folder of its own."""

    def __init__(self, repository: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "study.yaml").write_text(STUDY)
        self.repository, self.folder, self.printed = repository, folder, folder / "printed.txt"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "snakemake", "--configfile", str(self.folder / "study.yaml")]
        with self.printed.open("w") as output:
            return subprocess.Popen(
                [*command, "--directory", str(self.folder), *arguments],
                cwd=self.repository,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def can_go_on(self, runs: Iterable[str], cluster: Cluster) -> list[tuple[str, Job]]:
        """Which trainings would go on if their jobs died now, and these jobs."""
        saved = [run for run in runs if (self.folder / paths.partial(paths.weights(run)) / "state.pt").exists()]
        return [(run, job) for run in saved for job in cluster.running_jobs() if run in job.comment]

    def log(self, run: str) -> str:
        return (self.folder / paths.log("train", run)).read_text()

    def measures(self, bytes_below: Callable[[Path], dict[str, bytes]]) -> dict[str, bytes]:
        """Every byte of every measure."""
        return {f"{run}/{name}": data for run in RUNS for name, data in bytes_below(self._measures_of(run)).items()}

    def _measures_of(self, run: str) -> Path:
        return self.folder / paths.run_folder(run) / "measures"


def test_a_study_outlives_a_node_and_a_job(
    cluster: Cluster, repository: Path, tmp_path: Path, bytes_below: Callable[[Path], dict[str, bytes]]
) -> None:
    study = TinyStudy(repository, tmp_path / "slurm")
    snakemake = study.start("--profile", "profiles/slurm", *OF_THIS_CLUSTER)
    try:
        unharmed = set(RUNS)
        while unharmed:  # each as soon as it can go on: the other may not have started yet, or soon be done
            wait_until(lambda: study.can_go_on(unharmed, cluster), 120, study.printed.read_text)
            run, job = study.can_go_on(unharmed, cluster)[0]
            assert job.gpus == "gres:gpu:1"
            if run == "a-seed0":
                cluster.lose_node(job.node)
            else:
                query("scancel", "--full", "--signal=KILL", job.number)
            unharmed.remove(run)
        assert snakemake.wait(240) == 0, study.printed.read_text()
    finally:
        snakemake.kill()
        snakemake.wait()
    for run in RUNS:
        assert "continues after step" in study.log(run)
    assert (study.folder / paths.figure("f", "png")).is_file()

    local = TinyStudy(repository, tmp_path / "local")
    assert local.start("--cores", "2", "--until", "measure").wait() == 0, local.printed.read_text()
    measures = local.measures(bytes_below)
    assert {name.split("/")[1] for name in measures} == {"entropy.zarr", "weighted_jaccard_to_final.zarr"}
    assert study.measures(bytes_below) == measures
