"""A whole population beside its members alone: by sparsepop's command, and by Ray Tune's own scheduler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import run_module, trained
from benchmarks.measure import Spread, show, verdict
from benchmarks.toy import MEMBERS, Alone, Toy, calibrate, time_alone
from sparsepop.results import read

QUIET = 0.9  # share of the time that a process must have a CPU, or other programs are in the way


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
    began, ended = run_module("sparsepop.run", str(config), "--storage", folder)
    where = str(Path(folder, toy.experiment().name))
    first, last = trained(where)
    exploits = int((read(where, "events")["kind"] == "exploit").sum())
    return Run(first - began, last - first, ended - last, len(read(where, "reports")), exploits)


def time_tune(toy: Toy, folder: str) -> Run:
    """The toy by `python -m benchmarks.tune_pbt`."""
    size = ("--every", str(toy.every), "--generations", str(toy.generations))
    began, ended = run_module("benchmarks.tune_pbt", folder, *size)
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
