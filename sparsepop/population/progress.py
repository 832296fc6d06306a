"""What a person sees while a population trains: a table that is redrawn as members report."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

REFRESH = 0.5  # seconds between two redraws
QUIET_REFRESH = 30.0  # the same where the output is no terminal: a line each time


class Progress(Callback):
    """Draws members, their state, score, density, last donor, and elapsed and expected time; on a terminal in
    place, else as lines. `early`: what has become of a member that ends before its last step."""

    def __init__(
        self,
        name: str,
        members: int,
        finished: int,
        console: Console | None = None,
        *,
        early: str = "stopped",
    ) -> None:
        self.name = name
        self.members = members
        self.finished = finished
        self.early = early
        self.console = console or Console(file=sys.stdout)
        self.rows: dict[int, dict[str, Any]] = {}
        self.states: dict[int, str] = {}
        self.began = time.monotonic()
        self.first: dict[int, tuple[float, int]] = {}  # when and at which step a member was first heard of
        self.drawn = 0.0
        self.live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks, and a terminal cannot be pickled
        return {name: value for name, value in vars(self).items() if name not in ("console", "live")}

    def setup(self, *args: Any, **info: Any) -> None:
        """Take the terminal, where there is one."""
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
            self.draw()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has got a place."""
        self.states[trial.config["member"]] = "running"

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A member has reached the end of a generation, or says that it waits for others."""
        member = trial.config["member"]
        if result["waiting"]:
            self.states[member] = "waiting"
            return
        self.states[member] = "running"
        self.rows[member] = result
        self.first.setdefault(member, (time.monotonic(), result["step"]))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has failed and is tried again."""
        self.states[trial.config["member"]] = "again"

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has written its last report, or ends early."""
        member = trial.config["member"]
        # one that ends where an earlier run left it reports nothing
        final = member in self.rows and self.rows[member]["final"]
        self.states[member] = "done" if final else self.early

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A member has failed for good."""
        self.states[trial.config["member"]] = "failed"

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Redraw when it is time to."""
        for trial in trials:
            if trial.status == "PAUSED":
                self.states[trial.config["member"]] = "paused"
        pause = REFRESH if self.live else QUIET_REFRESH
        if time.monotonic() - self.drawn >= pause:
            self.draw()

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
            self.console.print(f"{escape(self.name)}: {self.summary()}", highlight=False, soft_wrap=True)

    def summary(self) -> str:
        """Elapsed time, share done, expected time left, members that failed."""
        text = f"{_clock(time.monotonic() - self.began)} elapsed, {self._done():.0%} done"
        if left := self._left(time.monotonic()):
            text += f", about {_clock(left)} left"
        failed = sum(state == "failed" for state in self.states.values())
        return text + (f", {failed} failed" if failed else "")

    def _done(self) -> float:
        shares = {member: row["step"] / row["steps"] for member, row in self.rows.items()}
        shares |= dict.fromkeys(self._ended_early(), 1.0)
        return (self.finished + sum(shares.values())) / self.members

    def _left(self, now: float) -> float | None:
        """Seconds that the steps left take at the pace since the first reports; None while unknown."""
        early = self._ended_early()
        gone = early | {member for member, state in self.states.items() if state == "failed"}
        rows = {member: row for member, row in self.rows.items() if member not in gone}
        made = sum(row["step"] - self.first[member][1] for member, row in rows.items())
        if made <= 0:
            return None
        began = min(self.first[member][0] for member in rows)
        # those that were not heard of yet have everything before them, as far as is known
        silent = self.members - self.finished - len(self.rows.keys() | early)
        todo = sum(row["steps"] - row["step"] for row in rows.values())
        todo += silent * max(row["steps"] for row in rows.values())
        return (now - began) * todo / made

    def _ended_early(self) -> set[int]:
        return {member for member, state in self.states.items() if state == self.early}


def progress_table(
    name: str, rows: Mapping[int, Mapping[str, Any]], states: Mapping[int, str], summary: str
) -> Table:
    """The members as a table, in order of their numbers; at most 80 columns wide, cut rather than wrapped."""
    title, caption = f"[b]{escape(name)}[/b]", escape(summary)
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=box.SIMPLE)
    for column in ("member", "state", "step", "score", "density", "donor", "seconds"):
        justify: Any = "left" if column == "state" else "right"
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis")
    for member in sorted(states):
        table.add_row(str(member), states[member], *_cells(rows.get(member)))
    return table


def _cells(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    if row is None:
        return ("",) * 5
    score = f"{row['score']:.4f}" if math.isfinite(row["score"]) else "diverged"
    donor = "" if row["donor"] < 0 else str(row["donor"])
    return f"{row['step']}/{row['steps']}", score, f"{row['density']:.2%}", donor, f"{row['seconds']:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
