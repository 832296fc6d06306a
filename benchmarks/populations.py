"""A whole population beside its members alone: by sparsepop's command, and by Ray Tune's own scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import Spread, show, verdict
from benchmarks.toy import MEMBERS, Alone, Toy, calibrate, time_alone
from sparsepop.results import read

QUIET = 0.9  # share of the time that a process must have a CPU, or other programs are in the way
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """A population's wall time in seconds (until its first member trains, while members train, and after the
    last one is done), the generations trained in all, and how often a member took over another's state."""

    startup: float
    training: float
    end: float
    generations: int
    exploits: int

    @property
    def wall(self) -> float:
        return self.startup + self.training + self.end


@dataclass(frozen=True)
class Measured:
    """Generations alone, measured several times, and the populations' runs."""

    toy: Toy
    alone: Sequence[Alone]
    runs: Mapping[str, Run]


def measure(folder: str, seconds: float, generations: int) -> Measured:
    """Everything in one go: alone, sparsepop, Tune, alone again."""
    toy = calibrate(seconds, generations)
    alone = [time_alone(toy)]
    runs = {"sparsepop": time_ours(toy, folder), "Ray Tune's PBT": time_tune(toy, folder)}
    return Measured(toy, [*alone, time_alone(toy)], runs)


def time_ours(toy: Toy, folder: str) -> Run:
    """The toy by `python -m sparsepop.run`."""
    config = Path(folder, "toy_config.py")
    config.write_text(f"from benchmarks.toy import Toy\n\nEXPERIMENT = {toy!r}.experiment()\n")
    began, ended = _run_module("sparsepop.run", str(config), "--storage", folder)
    where = str(Path(folder, toy.experiment().name))
    rows, events = read(where, "members", superseded=True), read(where, "events")
    first = rows.loc[rows["status"] == "started", "time"].min().timestamp()
    last = rows.loc[rows["status"] == "done", "time"].max().timestamp()
    exploits = int((events["kind"] == "exploit").sum())
    return Run(first - began, last - first, ended - last, len(read(where, "reports")), exploits)


def time_tune(toy: Toy, folder: str) -> Run:
    """The toy by `python -m benchmarks.tune_pbt`."""
    size = ("--every", str(toy.every), "--generations", str(toy.generations))
    began, ended = _run_module("benchmarks.tune_pbt", folder, *size)
    return tune_run(map(json.loads, Path(folder, "log.jsonl").read_text().splitlines()), began, ended)


def tune_run(lines: Iterable[Mapping[str, Any]], began: float, ended: float) -> Run:
    """What the lines that `tune_pbt` logged say of a run between two times."""
    log = list(lines)
    starts = [line for line in log if line["event"] == "start"]
    made = [line["time"] for line in log if line["event"] == "generation"]
    first, last = min(line["time"] for line in starts), max(made)
    exploits = sum(line["before"] not in ("", line["trial"]) for line in starts)
    return Run(first - began, last - first, ended - last, len(made), exploits)


def report(console: Console, measured: Measured, target: float | None) -> None:
    """Print how the populations compare with their members alone, generation for generation."""
    toy, alone = measured.toy, Spread.of(each.seconds for each in measured.alone)
    share = min(each.share for each in measured.alone)
    console.print(
        f"{MEMBERS} members, {toy.generations} generations of {toy.every} steps, one thread each. "
        "A generation alone (plain loops, all members side by side, no Ray): "
        f"{alone.median:.2f} s ({alone.low:.2f} to {alone.high:.2f})"
    )
    if share < QUIET:
        console.print(
            f"The machine was busy (a loop alone had a CPU for {share:.0%} of the time): quote no ratio"
        )
    rows = [
        [
            name,
            *_cells(run, alone.median),
            verdict(over(run, alone.median), target) if name == "sparsepop" else "",
        ]
        for name, run in measured.runs.items()
    ]
    times = ("start-up, s", "training, s", "end, s", "x alone", "with start and end")
    show(console, "Wall time of a population", ("population", "trained", "exploits", *times, "target"), rows)


def over(run: Run, generation: float) -> float:
    """Wall time of the training over what as many generations take alone, of `generation` seconds each."""
    return run.training / (generation * run.generations / MEMBERS)


def _cells(run: Run, generation: float) -> list[str]:
    ratio = over(run, generation)
    whole = ratio * run.wall / run.training
    seconds = (run.startup, run.training, run.end)
    return [
        str(run.generations),
        str(run.exploits),
        *(f"{each:.2f}" for each in seconds),
        f"{ratio:.3f}",
        f"{whole:.3f}",
    ]


def _run_module(name: str, *arguments: str, clock: Callable[[], float] = time.time) -> tuple[float, float]:
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
