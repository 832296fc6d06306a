"""What a person sees while a population trains: a table that is redrawn as members report."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from rich.console import Console
from rich.live import Live
from rich.table import Table

REFRESH = 0.5  # seconds between two redraws
QUIET_REFRESH = 30.0  # the same where the output is no terminal: a line each time


class Progress(Callback):
    """Draws members, their state, score, density, last donor, and elapsed and expected time; on a terminal in place, else as lines."""

    def __init__(self, name: str, members: int, finished: int, console: Console | None = None) -> None:
        self.name = name
        self.members = members
        self.finished = finished
        self.console = console or Console(file=sys.stdout)
        self.rows: dict[int, dict[str, Any]] = {}
        self.states: dict[int, str] = {}
        self.began = time.monotonic()
        self.base: dict[int, int] = {}
        self.drawn = 0.0
        self.live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a terminal cannot be
        return {name: value for name, value in vars(self).items() if name not in ("console", "live")}

    def setup(self, *args: Any, **info: Any) -> None:
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.states[trial.config["member"]] = "running"

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        member = trial.config["member"]
        self.states[member] = "waiting" if result["waiting"] else "running"
        if not result["waiting"]:
            # the first report of this run is where its speed is measured from
            self.base.setdefault(member, result["step"] - result["step"] // max(1, result["generation"]))
            self.rows[member] = result

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.states[trial.config["member"]] = "done"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.states[trial.config["member"]] = "failed"

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        pause = REFRESH if self.live else QUIET_REFRESH
        if time.monotonic() - self.drawn >= pause:
            self.draw()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.close()

    def close(self) -> None:
        """Draw the last state and give the terminal back."""
        if self.live is not None:
            self.draw()
            self.live.stop()
            self.live = None

    def draw(self) -> None:
        """Redraw the table, or print one line."""
        self.drawn = time.monotonic()
        if self.live is not None:
            self.live.update(progress_table(self.name, self.rows, self.states, self.summary()), refresh=True)
        else:
            self.console.print(f"{self.name}: {self.summary()}", highlight=False)

    def summary(self) -> str:
        """Elapsed time, share done, expected time left, best score."""
        elapsed = time.monotonic() - self.began
        text = f"{_clock(elapsed)} elapsed, {self._done():.0%} done"
        if left := self._left(elapsed):
            text += f", about {_clock(left)} left"
        scores = [row["score"] for row in self.rows.values() if row["score"] == row["score"]]
        return text + (f", best score {max(scores):.4f}" if scores else "")

    def _done(self) -> float:
        shares = [row["step"] / row["steps"] for row in self.rows.values()]
        return (self.finished + sum(shares)) / self.members

    def _left(self, elapsed: float) -> float | None:
        made = sum(row["step"] - self.base[member] for member, row in self.rows.items())
        if not made:
            return None
        steps = max(row["steps"] for row in self.rows.values())
        todo = (self.members - self.finished) * steps - sum(row["step"] for row in self.rows.values())
        return elapsed * todo / made


def progress_table(
    name: str, rows: Mapping[int, Mapping[str, Any]], states: Mapping[int, str], summary: str
) -> Table:
    """The members as a table, in order of their numbers."""
    table = Table(title=name, caption=summary, title_justify="left", caption_justify="left")
    for column in ("member", "state", "step", "score", "density", "donor", "seconds"):
        table.add_column(column, justify="left" if column == "state" else "right")
    for member in sorted(states):
        row = rows.get(member)
        if row is None:
            table.add_row(str(member), states[member], *[""] * 5)
            continue
        donor = "" if row["donor"] < 0 else str(row["donor"])
        step = f"{row['step']}/{row['steps']}"
        numbers = (f"{row['score']:.4f}", f"{row['density']:.4%}", donor, f"{row['seconds']:.0f}")
        table.add_row(str(member), states[member], step, *numbers)
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
