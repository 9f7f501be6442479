"""A real Slurm of two nodes with two GPUs each, on this machine: real daemons, and device files in place of GPUs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = "slurmctld slurmd slurm-client munge"
SETTINGS = Path("/etc/slurm")
"""Not a folder of the test's own: Snakemake's job steps drop SLURM_CONF, and Slurm's programs then look here."""

MARK = "# Written by reluscope's tests/cluster, and removed by them.\n"
NODES = ("node1", "node2")
PORTS = {"slurmctld": 16817, "node1": 17001, "node2": 17002}

SLURM_CONF = """\
ClusterName=reluscope-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory,CR_LLN
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SlurmdTimeout=6
ReturnToService=2
GresTypes=gpu
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node1]} CPUs=4 RealMemory=64000 Gres=gpu:2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node2]} CPUs=4 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES State=UP
"""
# cred_expire and SlurmdTimeout, minutes by default: how soon a dead node's jobs are started elsewhere

GRES_CONF = """\
AutoDetect=off
NodeName=node1 Name=gpu File={folder}/devices.node1/nvidia[0-1]
NodeName=node2 Name=gpu File={folder}/devices.node2/nvidia[0-1]
"""


def missing() -> str | None:
    """Why no Slurm can be brought up here, in one line with what to do; None if it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "Slurm's daemons need root; run the tests as root, in a container for example"
    if lost := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(lost)} not found: apt-get install --no-install-recommends {PACKAGES}"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "Snakemake's Slurm plugin not found: pip install -e '.[test]' -c envs/constraints.txt"
    if foreign := [f for f in _settings_files() if f.exists() and not f.read_text().startswith(MARK)]:
        return f"{foreign[0]} is there: this machine belongs to a Slurm cluster, which is left alone"
    try:
        with tempfile.TemporaryDirectory() as folder:
            _make_device(Path(folder) / "nvidia0")
    except PermissionError:
        return "no device files may be made here: give the container the capability MKNOD"
    return None


def _settings_files() -> list[Path]:
    return [SETTINGS / "slurm.conf", SETTINGS / "gres.conf"]


@dataclass(frozen=True)
class Job:
    """One that Slurm runs; its comment names rule and wildcards."""

    number: str
    node: str
    gpus: str
    comment: str


class Cluster:
    """Daemons of a running Slurm, as `running_cluster` started them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, psutil.Popen] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a daemon, which dies with this process in any case."""
        command = ("setpriv", "--pdeathsig", "KILL", *command)
        with (self.folder / f"{name}.out").open("w") as output:
            self.daemons[name] = psutil.Popen(command, stdout=output, stderr=output)

    def running_jobs(self) -> list[Job]:
        columns = "--Format=JobID:20,NodeList:20,tres-per-job:20,Comment:200"
        lines = query("squeue", "--noheader", "--states=RUNNING", columns).splitlines()
        return [Job(*line.split()) for line in lines]

    def lose_node(self, node: str) -> None:
        """What a power cut does: the node's daemon and every process of its jobs are gone.

        Jobs are no children of the daemon, but of a process that writes into its log.
        """
        log = str(self.folder / f"slurmd.{node}.log")
        kill([self.daemons[node], *(p for p in psutil.process_iter() if _has_open(p, log))])

    def stop(self) -> None:
        for node in NODES:
            if node in self.daemons:
                self.lose_node(node)
        kill(list(self.daemons.values()))


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A Slurm that is up, one at a time on a machine; nothing of it is left afterwards, failure or not.

    Only where this process is killed two settings files stay behind, which the next one knows by their mark.

    Raises:
        TimeoutError: a daemon did not come up; says what it printed.
    """
    temporary = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        stack.enter_context(FileLock(temporary / "reluscope-slurm-test.lock", timeout=600))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reluscope-slurm-")))
        folder.chmod(0o755)  # munged mistrusts any other
        cluster = Cluster(folder)
        stack.callback(_remove_settings, with_folder=not SETTINGS.exists())
        _write_settings(folder)
        stack.callback(cluster.stop)
        _start(cluster)
        yield cluster


def _write_settings(folder: Path) -> None:
    SETTINGS.mkdir(exist_ok=True)
    values = {"folder": folder, "host": socket.gethostname().partition(".")[0], "ports": PORTS}
    for file, text in zip(_settings_files(), (SLURM_CONF, GRES_CONF), strict=True):
        file.write_text(MARK + text.format(**values))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
        devices = folder / f"devices.{node}"
        devices.mkdir()
        for number in (0, 1):
            _make_device(devices / f"nvidia{number}")


def _make_device(path: Path) -> None:
    """A twin of /dev/null: Slurm wants character devices."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def _remove_settings(with_folder: bool) -> None:
    for file in _settings_files():
        file.unlink(missing_ok=True)
    if with_folder:
        SETTINGS.rmdir()


def _start(cluster: Cluster) -> None:
    folder = cluster.folder
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    sockets = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
    cluster.start("munged", "munged", "--foreground", f"--key-file={folder}/munge.key", *sockets)
    wait_until(lambda: (folder / "munge.socket").exists(), 20, lambda: _printed(cluster, "munged"))
    cluster.start("slurmctld", "slurmctld", "-D")
    for node in NODES:
        cluster.start(node, "slurmd", "-D", "-N", node)
    idle = ("sinfo", "--noheader", "--states=idle", "--format=%D")
    wait_until(lambda: query(*idle).strip() == str(len(NODES)), 60, lambda: _printed(cluster, "slurmctld", *NODES))


def _printed(cluster: Cluster, *names: str) -> str:
    return "\n".join(f"{name}: {(cluster.folder / f'{name}.out').read_text()}" for name in names)


def query(*command: str) -> str:
    """What one of Slurm's programs prints; nothing where it cannot reach the daemon yet."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_until(condition: Callable[[], object], seconds: float, explain: Callable[[], str]) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s:\n{explain()}")
        time.sleep(0.2)


def _has_open(process: psutil.Process, file: str) -> bool:
    try:
        return file in (opened.path for opened in process.open_files())
    except psutil.Error:  # gone meanwhile
        return False


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes of ours and all below them."""
    family = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=10)
