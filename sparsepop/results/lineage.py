"""Who came from whom, and who leads: the views of an experiment that join its tables."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sparsepop.results.reader import Folder, last_rows
from sparsepop.results.schema import DONOR_GENERATION
from sparsepop.results.tables import Tables, read, tables_of

_REPORTED = ("score", "validation_accuracy", "test_accuracy", "density", "alive", "prunable", "seconds")
_FROM_DONORS = ("exploit", "start")
_TAKEN = ["member", "generation", "step", "donor"]
_SENT = ("bytes_up", "bytes_down")  # what the rows of one round differ in
_NAMED = 8  # members that a merge names at most
_LEADERBOARD = (
    *("rank", "member", "status", "step", "score", "validation_accuracy", "test_accuracy", "density"),
    *("alive", "prunable", "exploits", "donor", "seconds", "hp"),
)


def lineage(experiment: Folder | Tables) -> pd.DataFrame:
    """Who took whose state, in order of steps (exploits, common starts): member, generation, step, donor."""
    return _taken(read(experiment, "events"), _FROM_DONORS)[_TAKEN]


def ancestors(experiment: Folder | Tables, member: int) -> list[tuple[int, int, int]]:
    """The history of the weights that `member` has now: (member, from_step, to_step), oldest first.

    A donor gives the state that it had at the end of a generation, before it received anything there itself;
    what it took later, even at earlier steps, is no part of that. Networks merged of several members' have
    no donor: the events `merge` and `superpose` tell of them. Raises ValueError for a member that the
    experiment doesn't have.
    """
    tables = tables_of(experiment)
    members, events = tables.read("members"), tables.read("events")
    if member not in set(members["member"]):
        known = ", ".join(map(str, members["member"])) or "none"
        raise ValueError(f"member {member} is not in {tables.storage}: its members are {known}")
    stood = _stood(members, tables.read("reports"), events)
    end = int(stood.loc[stood["member"] == member, "step"].max())
    ever = _ever_taken(tables.read("events", superseded=True))
    return _segments(_taken(events, _FROM_DONORS), ever, member, end)


class Merged(NamedTuple):
    """A round in which members were made one network: its step, who took that network (or ended with it), and
    how many networks went into it.
    """

    step: int
    members: tuple[int, ...]
    networks: int

    def __str__(self) -> str:
        names = ", ".join(f"m{member}" for member in self.members)
        # where only some take what was made of all, events don't tell of whom
        named = self.networks == len(self.members) <= _NAMED
        return f"merged from {names if named else f'{self.networks} members'} at step {self.step:,}"


def merges(events: pd.DataFrame) -> list[Merged]:
    """The rounds in which populations were merged or superposed, from the table `events`, in order of steps:
    one of each group. Superpositions that nobody took are left out.
    """
    ends = [bool(numbers.get("round_end")) for numbers in events["numbers"]]
    taken = (events["kind"] == "merge") | ((events["kind"] == "superpose") & events["overlap"].notna())
    rounds: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for row in events[taken & pd.Series(ends, events.index, dtype=bool)].itertuples():
        numbers = {name: value for name, value in dict(row.numbers).items() if name not in _SENT}
        # nothing names the groups, but all of a group have the same numbers
        rounds.setdefault((row.step, str(sorted(numbers.items()))), []).append(
            (row.member, int(numbers.get("networks", 0)))
        )
    made = [(step, sorted(members)) for (step, _), members in rounds.items()]
    return sorted(Merged(step, tuple(member for member, _ in of), of[0][1] or len(of)) for step, of in made)


def since_merge(
    segments: list[tuple[int, int, int]], made: list[Merged]
) -> tuple[Merged | None, list[tuple[int, int, int]]]:
    """The last of the merges that weights came out of, of which `ancestors` gave the history, and their
    history from then on; None, and all of it, where they came out of none.
    """
    for place in reversed(range(len(segments))):
        member, start, end = segments[place]
        own = [each for each in made if member in each.members and start < each.step <= end]
        if own:
            return own[-1], [(member, own[-1].step, end), *segments[place + 1 :]]
    return None, segments


def _segments(current: pd.DataFrame, ever: pd.DataFrame, member: int, end: int) -> list[tuple[int, int, int]]:
    segments: list[tuple[int, int, int]] = []
    taken = current[current["member"] == member]
    while not taken.empty:
        last = taken.iloc[-1]
        start, given = int(last["step"]), last[DONOR_GENERATION]
        segments.insert(0, (member, start, end))
        member, end = int(last["donor"]), start
        if pd.isna(given):  # earlier versions did not say
            taken = current[(current["member"] == member) & (current["step"] < start)]
        else:
            taken = ever[(ever["member"] == member) & (ever["generation"] < given)]
    return [(member, 0, end), *segments]


def _ever_taken(events: pd.DataFrame) -> pd.DataFrame:
    """What every member took, by generation, whatever superseded it: others may have the donor's state from
    before. Of a generation that was repeated, the last attempt counts, which may have found nothing to take.
    """
    decided = events[events["kind"].isin([*_FROM_DONORS, "lost"])].sort_values(["attempt", "time"])
    decided = decided.drop_duplicates(["member", "generation"], keep="last")
    return _taken(decided, _FROM_DONORS).sort_values("generation")


def _stood(*frames: pd.DataFrame) -> pd.DataFrame:
    """Where members were seen: the rows of all frames, with columns member and step."""
    return pd.concat([frame[["member", "step"]] for frame in frames])


def _taken(events: pd.DataFrame, kinds: tuple[str, ...] = ("exploit",)) -> pd.DataFrame:
    taken = events[events["kind"].isin(kinds) & events["donor"].notna()].sort_values(["step", "member"])
    given = taken["numbers"].map(lambda numbers: numbers.get(DONOR_GENERATION)).astype("float64")
    taken = taken.assign(**{DONOR_GENERATION: given})[[*_TAKEN, DONOR_GENERATION]]
    return taken.astype({"donor": "int32"}).reset_index(drop=True)


def leaderboard(experiment: Folder | Tables) -> pd.DataFrame:
    """One row per member, the best score first (of equals the lower validation loss; then those without one,
    and last those that scored while partly dense: merged into another, or stopped while denser than any that
    has ended), from the newest rows of each. Best is lowest where the experiment's mode is `min`.

    Columns: rank (from 1), member, status, step, score, validation_accuracy, test_accuracy (missing before
    the end), density (share of prunable weights alive), alive, prunable, exploits (how often it took a
    donor's state), donor (the last one), seconds (device-seconds), hp (JSON, as they are now).
    """
    tables = tables_of(experiment)
    members, reports, events = (tables.read(table) for table in ("members", "reports", "events"))
    newest = last_rows(reports)
    board = members.set_index("member")[["status"]].join(newest[list(_REPORTED)])
    board["step"] = _stood(members, reports).groupby("member")["step"].max()
    taken = _taken(events).astype({"donor": "Int32"}).groupby("member")["donor"]
    board["exploits"] = taken.size().reindex(board.index, fill_value=0)
    board["donor"] = taken.last().reindex(board.index)
    board["hp"] = _hp_now(tables.read("members", superseded=True), events).reindex(board.index)
    board["loss"] = newest["validation_loss"]
    # by more than rounding makes of one density in two networks
    denser = board["density"] > 1.01 * board.loc[board["status"] == "done", "density"].max()
    board["denser"] = (board["status"] == "merged") | (board["status"].isin(["stopped", "failed"]) & denser)
    order = [True, tables.description.get("mode") == "min", True]
    board = board.sort_values(["denser", "score", "loss"], ascending=order).reset_index()
    return board.assign(rank=range(1, len(board) + 1))[list(_LEADERBOARD)]


def _hp_now(members: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """The newest hyperparameters of each member: those it started with, or those an event left it with."""
    changed = events.rename(columns={"hp_after": "hp"})
    known = pd.concat([frame[["member", "time", "hp"]].dropna() for frame in (members, changed)])
    return known.sort_values("time", kind="stable").groupby("member")["hp"].last()
