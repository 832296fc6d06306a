"""Commands run as a user runs them, and when the members of an experiment trained."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sparsepop.results import read

ROOT = Path(__file__).resolve().parents[1]


def run_module(name: str, *arguments: str, clock: Callable[[], float] = time.time) -> tuple[float, float]:
    """Run a module as a command; returns when it began and ended. RuntimeError when it fails."""
    # members get the priority of the loops they are compared with, and can import what the config imports
    environment = {"RAY_worker_niceness": "0", **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", name, *arguments]
    began = clock()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    ended = clock()
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{name} failed with exit status {done.returncode}:\n{last}")
    return began, ended


def trained(experiment: str) -> tuple[float, float]:
    """When the first member of an experiment started and the last one was done, in seconds since 1970."""
    rows = read(experiment, "members", superseded=True)
    first = rows.loc[rows["status"] == "started", "time"].min().timestamp()
    last = rows.loc[rows["status"] == "done", "time"].max().timestamp()
    return first, last
