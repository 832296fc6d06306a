"""python -m benchmarks.partitions: what growing partitions side by side saves over growing them in turn."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import run_module, trained
from benchmarks.measure import Times, in_turns, ratios, show, verdict
from sparsepop.experiment import PARTITION, Experiment, Grid, PartitionParallel, Resources
from sparsepop.methods import gap, parallel_gap
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Phases

MODEL, DATA, DENSITY = "wrn-10-1", "digits", 0.1
TARGET = 1.0  # of the time of C-GaP
TURN, SIDE = "C-GaP, in turn", "P-GaP, side by side"


@dataclass(frozen=True)
class Race:
    """`rounds` over all of `parts` partitions, each grown for `length` steps, then `length` of fine-tuning;
    side by side also `length` of common sparse training before. One thread for each member.
    """

    length: int
    rounds: int
    parts: int

    def steps(self, name: str) -> int:
        """Steps one after the other."""
        grown = self.rounds * (1 if name == SIDE else self.parts)
        return (grown + (2 if name == SIDE else 1)) * self.length

    def recipe(self, hp: Mapping[str, Any]) -> Recipe:
        """The member that grows the partition hp names, or all of them in turn."""
        if PARTITION in hp:
            steps, rounds = self.steps(SIDE), Phases.regular(self.length, self.rounds, self.length)
            methods = parallel_gap(DENSITY, rounds, hp[PARTITION], parts=self.parts)
        else:
            steps = self.steps(TURN)
            methods = gap(DENSITY, steps, parts=self.parts, length=self.length, fine_tune=self.length / steps)
        return Recipe(MODEL, steps, methods, SGD(Cosine(0.1, 0.0, steps)), clip=1.0)

    def experiment(self, name: str) -> Experiment:
        """One of the two as an experiment."""
        search = PartitionParallel(self.parts) if name == SIDE else Grid({})
        return Experiment("race", self.recipe, DATA, search, self.length, resources=Resources(cpus=1, gpus=0))

    def run(self, name: str) -> float:
        """Seconds from the first member's start to the last one's end, by `python -m sparsepop.run`."""
        with tempfile.TemporaryDirectory(prefix="sparsepop-benchmark-") as folder:
            config = Path(folder, "race_config.py")
            config.write_text(
                f"from benchmarks.partitions import Race\n\nEXPERIMENT = {self!r}.experiment({name!r})\n"
            )
            run_module("sparsepop.run", str(config), "--storage", folder)
            first, last = trained(str(Path(folder, "race")))
            return last - first


def measure(race: Race, turns: int) -> Times:
    """Seconds of both in each turn; every other turn goes backwards."""
    times: Times = {TURN: [], SIDE: []}
    for _, name in in_turns((TURN, SIDE), turns):
        times[name].append(race.run(name))
    return times


def report(console: Console, race: Race, times: Times) -> None:
    """Print the times, their ratio, and what the numbers of steps alone would make of it."""
    ideal = race.steps(SIDE) / race.steps(TURN)
    rows = [
        [name, str(race.steps(name)), *(f"{each:.1f}" for each in (min(times[name]), max(times[name])))]
        for name in (TURN, SIDE)
    ]
    show(
        console,
        f"{MODEL}, {race.parts} partitions, {race.rounds} rounds",
        ("", "steps", "from, s", "to, s"),
        rows,
    )
    ratio = ratios(times[SIDE], times[TURN])
    cells = [*ratio.cells(), verdict(ratio.median, TARGET), f"{ideal:.3f}"]
    show(
        console,
        "Wall time",
        ("", "ratio", "low", "high", "target", "of steps"),
        [["side by side / in turn", *cells]],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.partitions", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="short rounds, once: a check that it runs")
    parser.add_argument("--length", type=int, default=500, help="steps of a partition (default 500)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds over all partitions (default 6)")
    parser.add_argument(
        "--parts", type=int, default=2, help="partitions; as many CPUs must be free (default 2)"
    )
    parser.add_argument("--turns", type=int, default=3, help="how often both are run (default 3)")
    flags = parser.parse_args(arguments)
    race = Race(20 if flags.quick else flags.length, flags.rounds, flags.parts)
    report(Console(width=120), race, measure(race, 1 if flags.quick else flags.turns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
