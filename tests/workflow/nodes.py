"""Nodes that share no disk: each job of Snakemake's executor cluster-generic runs in an empty folder of its own.

nodes.py submit FOLDER JOBSCRIPT     start it, print its number
nodes.py status FOLDER NUMBER        running, success or failed
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def submit(nodes: Path, jobscript: Path) -> str:
    number = str(len(list(nodes.iterdir())))
    node = nodes / number
    (node / "work").mkdir(parents=True)
    (node / "job.sh").write_bytes(jobscript.read_bytes())
    with (node / "log").open("w") as log:
        job = subprocess.Popen(
            ["bash", "-c", "bash ../job.sh; echo $? > ../ended"],
            cwd=node / "work",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (node / "session").write_text(str(job.pid))
    return number


def status(nodes: Path, number: str) -> str:
    node = nodes / number
    try:
        os.kill(int((node / "session").read_text()), 0)
        lives = True
    except ProcessLookupError:
        lives = False
    ended = (node / "ended").read_text().strip() if (node / "ended").exists() else ""
    return {"": "running" if lives else "failed", "0": "success"}.get(ended, "failed")


if __name__ == "__main__":
    command, folder, what = sys.argv[1:]
    print(submit(Path(folder), Path(what)) if command == "submit" else status(Path(folder), what))
