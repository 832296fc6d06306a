"""What the page tells: the summary, the leaderboard, who came from whom, what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from sparsepop.figures.tickets import tickets_text
from sparsepop.report.cells import Column, Table, amount, count, duration, numbers_text, percent, shown
from sparsepop.results import Tables, ancestors
from sparsepop.results.lineage import Merged, since_merge
from sparsepop.results.reader import last_rows
from sparsepop.results.report import wall_seconds
from sparsepop.results.table import base_name, hp_text, percent_text

ROWS = 200  # rows of a table at most: a page is for looking at, the tables themselves are for the rest
_STATE_CHANGES = ("failed", "stopped")


def about(described: dict[str, Any], reports: pd.DataFrame) -> str:
    """What was searched, on what data, and when, in one line."""
    search = described.get("search", {})
    parts = [str(search.get("type", "")), base_name(str(described.get("data", "")))]
    if score := described.get("score"):
        parts.append(f"score: {score} ({described.get('mode', 'max')})")
    if len(reports):
        first, last = reports["time"].min(), reports["time"].max()
        parts.append(f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC")
    return " · ".join(part for part in parts if part)


def tiles(
    tables: Tables, board: pd.DataFrame, reports: pd.DataFrame, made: list[Merged]
) -> list[tuple[str, str, str]]:
    """The summary: (what, number, small print) each; of the merges `made` where there are any."""
    best, newest = board.iloc[0], last_rows(reports)
    statuses = ", ".join(f"{number} {status}" for status, number in board["status"].value_counts().items())
    spent, dense = newest["train_flops"].sum(), newest["dense_flops"].max()
    density = f"{percent_text(best['density'])} of its prunable weights alive"
    exploits, devices = int(board["exploits"].sum()), duration(board["seconds"].sum())
    merged = [("merges", str(len(made)), "rounds in which members were made one network")] if made else []
    return [
        ("best member", f"m{best['member']}", f"score {shown(best['score'], '{:.4f}'.format)}"),
        (
            "test accuracy",
            _with_unit(best["test_accuracy"]),
            f"validation {_with_unit(best['validation_accuracy'])}",
        ),
        ("weights", count(best["alive"]), density),
        ("members", str(len(board)), statuses),
        ("exploits", str(exploits), "states taken over from another member"),
        *merged,
        (
            "time",
            duration(wall_seconds(tables)),
            f"wall after start-up; {devices} of devices",
        ),
        ("training FLOPs", amount(spent), f"all members; dense: {amount(dense)} an input"),
    ]


def _with_unit(share: Any) -> str:
    return f"{percent(share)}%" if not pd.isna(share) else percent(share)


def board_table(board: pd.DataFrame, reports: pd.DataFrame) -> Table:
    """The leaderboard, with everything that a claim about a sparse network must say beside its accuracy; the
    score only where it is not the validation accuracy.
    """
    costs = ["others", "train_flops", "inference_flops", "dense_flops"]
    known = board.join(last_rows(reports)[costs], on="member").head(ROWS)
    known["share"] = known["inference_flops"] / known["dense_flops"]
    columns = (
        _COLUMNS
        if (board["score"].fillna(-1) != board["validation_accuracy"].fillna(-1)).any()
        else (_COLUMNS[:4] + _COLUMNS[5:])
    )
    rows = [[form(row) for _, form in columns] for _, row in known.iterrows()]
    left = len(board) - len(rows)
    note = f"{left} more members: python -m sparsepop.results" if left else ""
    heads = [column for column, _ in columns]
    return Table(heads, rows, [str(status) for status in known["status"]], note)


def _infers(row: pd.Series) -> str:
    return amount(row["inference_flops"]) + (
        "" if pd.isna(row["share"]) else f" ({percent_text(row['share'])})"
    )


def _takes(row: pd.Series) -> str:
    return f"{row['exploits']} (m{row['donor']})" if row["exploits"] else "0"


_COLUMNS: tuple[tuple[Column, Callable[[pd.Series], str]], ...] = (
    (Column("#"), lambda row: str(row["rank"])),
    (Column("member"), lambda row: f"m{row['member']}"),
    (Column("status", kind="word"), lambda row: str(row["status"])),
    (Column("step"), lambda row: count(row["step"])),
    (Column("score", "what members were compared by"), lambda row: shown(row["score"], "{:.4f}".format)),
    (Column("valid. %", "validation accuracy"), lambda row: percent(row["validation_accuracy"])),
    (Column("test %", "test accuracy of the last state"), lambda row: percent(row["test_accuracy"])),
    (Column("density", "share of prunable weights alive"), lambda row: percent_text(row["density"])),
    (
        Column("alive / prunable", "weights"),
        lambda row: f"{count(row['alive'])} / {count(row['prunable'])}",
    ),
    (
        Column("other", "learnables that are not prunable: biases, norms, thresholds, ..."),
        lambda row: count(row["others"]),
    ),
    (
        Column("train FLOPs", "of this member's own training so far"),
        lambda row: amount(row["train_flops"]),
    ),
    (Column("infer. FLOPs", "of one input, and as a share of the dense network's"), _infers),
    (Column("seconds", "device-seconds"), lambda row: shown(row["seconds"], "{:,.0f}".format)),
    (Column("exploits", "how often it took a state (and the last donor)"), _takes),
    (Column("hyperparameters", "as they are now", "text"), lambda row: hp_text(row["hp"])),
)


def ancestry(tables: Tables, board: pd.DataFrame, made: list[Merged]) -> str:
    """Where the best member's weights come from, in one line; from the last of the merges `made` on."""
    origin, segments = since_merge(ancestors(tables, int(board.iloc[0]["member"])), made)
    parts = [str(origin)] if origin else []
    parts += [f"m{member} (steps {start:,} to {end:,})" for member, start, end in segments]
    return " → ".join(parts)


def exploit_table(events: pd.DataFrame) -> Table:
    """Who took whose state, and what became of the hyperparameters."""
    taken = events[(events["kind"] == "exploit") & events["donor"].notna()].sort_values(["step", "member"])
    columns = (
        *(
            Column("step"),
            Column("member"),
            Column("donor"),
            Column("mask overlap", "of before and after, Jaccard"),
        ),
        *(Column("before", kind="text"), Column("after", kind="text")),
    )
    rows = [
        [
            *(count(row["step"]), f"m{row['member']}", f"m{row['donor']}"),
            shown(row["overlap"], "{:.3f}".format),
            *(hp_text(row["hp_before"]), hp_text(row["hp_after"])),
        ]
        for _, row in taken.head(ROWS).iterrows()
    ]
    return Table(columns, rows, note=_more(taken))


def ended_table(members: pd.DataFrame) -> Table:
    """Members that did not finish, and what they said."""
    ended = members[members["status"].isin(_STATE_CHANGES)]
    columns = (
        Column("member"),
        Column("status", kind="word"),
        Column("step"),
        Column("message", kind="text"),
    )
    rows = [
        [f"m{row['member']}", str(row["status"]), count(row["step"]), shown(row["message"])]
        for _, row in ended.head(ROWS).iterrows()
    ]
    return Table(columns, rows, [row[1] for row in rows], _more(ended))


def event_table(events: pd.DataFrame) -> Table:
    """Everything that methods and members noted, exploits left out, for they have a table of their own."""
    noted = events[events["kind"] != "exploit"].sort_values(["step", "member"], kind="stable")
    columns = (
        *(Column("step"), Column("member"), Column("kind", kind="word")),
        *(Column("message", kind="text"), Column("numbers", kind="text")),
    )
    rows = [
        [
            *(count(row["step"]), f"m{row['member']}", str(row["kind"])),
            *(shown(row["message"]), numbers_text(row["numbers"])),
        ]
        for _, row in noted.head(ROWS).iterrows()
    ]
    return Table(columns, rows, note=_more(noted))


def ensemble_table(ensembles: pd.DataFrame) -> Table:
    """What was made of several tickets together, and how good it is."""
    columns = (
        *(Column("kind", kind="word"), Column("tickets", "how many, or which one")),
        *(Column("split", kind="word"), Column("accuracy %")),
        *(Column("NLL", "nats"), Column("ECE %", "expected calibration error")),
        *(
            Column("disagree %", "answers that differ, mean over pairs"),
            Column("alive / prunable", "weights"),
        ),
        Column("infer. FLOPs", "of one input"),
    )
    rows = [
        [
            *(str(row["kind"]), tickets_text(row["tickets"]), shown(row["split"]), percent(row["accuracy"])),
            *(shown(row["nll"], "{:.4f}".format), percent(row["calibration_error"])),
            *(percent(row["disagreement"]), f"{count(row['alive'])} / {count(row['prunable'])}"),
            amount(row["inference_flops"]),
        ]
        for _, row in ensembles.head(ROWS).iterrows()
    ]
    return Table(columns, rows, note=_more(ensembles))


def _more(frame: pd.DataFrame) -> str:
    left = len(frame) - ROWS
    return f"{left:,} more rows are in the experiment's tables" if left > 0 else ""
