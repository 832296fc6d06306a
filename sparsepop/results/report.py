"""The end of a run, for people: who did how well, what was exchanged, what it cost, where the results lie."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsepop.results.hyper import has_repeats, hp_keys
from sparsepop.results.lineage import leaderboard, merges
from sparsepop.results.reader import Folder, last_rows
from sparsepop.results.table import counted, hp_text, percent_text
from sparsepop.results.tables import Tables, read, tables_of
from sparsepop.storage import Storage

# events that somebody who is to believe the results should look at; tickets have a message where they warn
_WARNINGS = ("collapse", "diverged", "damaged", "missing", "lost", "hung", "unsaved", "ticket")
_ALIVE = "alive\nweights"
_TOP, _BOTTOM, _ALL = 10, 3, 20  # rows shown of a large population, and the size up to which all are


def print_summary(storage: Storage, console: Console) -> None:
    """Print the experiment in `storage`: its members (runs that repeat one setting grouped), the best one,
    the exploits, wall and device seconds, and the path of the results. Needs 80 columns; only hp is folded.
    """
    tables = Tables(storage)
    board = leaderboard(tables)
    if board.empty:
        _print_path(console, f"no member has started; results: {storage}")
        return
    repeated = has_repeats(board)
    console.print(settings_table(tables, board) if repeated else members_table(board))
    for line in (best_line(board), cost_line(tables, board), *warning_lines(tables)):
        console.print(line, markup=False, highlight=False)
    _print_path(console, f"results: {storage}")


def _print_path(console: Console, line: str) -> None:
    """A line taken literally and never broken, so that the path can be copied."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def members_table(board: pd.DataFrame) -> Table:
    """One row per member, best first; of more than 20 members the first 10 and the last 3.

    What all members have in common is said once, in the caption: their alive weights, and that the score is
    their validation accuracy.
    """
    cells = _cells(board)
    caption = None
    if _same_counts(board):
        caption = f"alive weights: {cells.pop(_ALIVE).iloc[0]} / {board['prunable'].iloc[0]:,}"
    table = _table("members, best first", caption, list(map(str, cells)))
    rows = cells.to_dict("records")
    left_out = range(_TOP, len(rows) - _BOTTOM if len(rows) > _ALL else _TOP)
    for index, row in enumerate(rows):
        if index == _TOP and left_out:
            table.add_row("…", *[""] * (len(row) - 2), _left_out(board[_TOP : left_out.stop]), style="dim")
        if index not in left_out:
            table.add_row(*map(escape, row.values()), style="red" if row["status"] == "failed" else None)
    return table


def _cells(board: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame({"#": board["rank"].astype(str), "member": board["member"].astype(str)})
    cells["status"] = board["status"].astype(str)
    if not _same(board["score"], board["validation_accuracy"]):
        cells["score"] = board["score"].map(_number)
    if board["validation_accuracy"].notna().any():
        cells["valid.\nacc."] = board["validation_accuracy"].map(_number)
    cells["test\nacc."] = board["test_accuracy"].map(_number)
    cells["density"] = board["density"].map(percent_text)
    total = board["prunable"].nunique() > 1  # else the best one's line tells it
    cells[_ALIVE] = [_alive(row, total) for _, row in board.iterrows()]
    if board["exploits"].any():
        cells["exploits\n(donor)"] = [_exploits(row) for _, row in board.iterrows()]
    cells["seconds"] = board["seconds"].map(lambda seconds: _number(seconds, ",.0f"))
    cells["hp"] = board["hp"].map(hp_text, na_action=None)
    return cells


def _table(title: str, caption: str | None, columns: list[str]) -> Table:
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for column in columns:
        if column == "hp":
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="left" if column == "status" else "right", no_wrap=True)
    return table


def _left_out(board: pd.DataFrame) -> str:
    counts = board["status"].value_counts()
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{len(board)} members left out" + ("" if set(counts.index) == {"done"} else f" ({kinds})")


def _same_counts(board: pd.DataFrame) -> bool:
    return bool(board["alive"].notna().all()) and len(board[["alive", "prunable"]].drop_duplicates()) == 1


def _same(one: pd.Series, other: pd.Series) -> bool:
    return bool(((one == other) | (one.isna() & other.isna())).all())


def _number(value: float, form: str = ".4f") -> str:
    return "-" if pd.isna(value) else format(value, form)


def _alive(row: pd.Series, total: bool) -> str:
    if pd.isna(row["alive"]):
        return "-"
    return f"{row['alive']:,}" + (f" / {row['prunable']:,}" if total else "")


def _exploits(row: pd.Series) -> str:
    return f"{row['exploits']} ({row['donor']})" if row["exploits"] else "0    "


def settings_table(tables: Tables, board: pd.DataFrame) -> Table:
    """One row per setting of the hyperparameters, over its finished runs, in the order of their members.

    Accuracies are mean ± sample standard deviation. The FLOPs of training stand beside their ratio to the
    dense runs of the same network, where the experiment has such runs.
    """
    board = with_train_flops(tables, board).assign(key=hp_keys).sort_values("member")
    groups = [group for _, group in board.groupby("key", sort=False)]
    table = _table(
        "settings, mean ± standard deviation over seeds",
        "train GFLOPs: of one run (relative to dense)" if board["relative"].notna().any() else None,
        ["runs", "test\naccuracy", "validation\naccuracy", "density", "train GFLOPs", "hp"],
    )
    for group in groups:
        table.add_row(*map(escape, _setting(group)))
    return table


def _setting(group: pd.DataFrame) -> list[str]:
    done = group[group["train_flops"].notna()]
    runs = str(len(done)) if len(done) == len(group) else f"{len(done)} of {len(group)}"
    accuracies = [_spread(done[column]) for column in ("test_accuracy", "validation_accuracy")]
    gflops, relative = done["train_flops"].mean() / 1e9, done["relative"].mean()
    cost = _gflops(gflops) + ("" if pd.isna(relative) else f" ({relative:.3f}x)")
    return [runs, *accuracies, percent_text(done["density"].mean()), cost, hp_text(group["hp"].iloc[0])]


def _spread(values: pd.Series) -> str:
    deviation = values.std()
    return _number(values.mean()) + ("" if pd.isna(deviation) else f" ± {deviation:.4f}")


def _gflops(gflops: float) -> str:
    return _number(gflops, ",.0f" if gflops >= 100 else ".3g")


def with_train_flops(experiment: Folder | Tables, board: pd.DataFrame) -> pd.DataFrame:
    """A leaderboard with train_flops of finished runs, and relative: their ratio to the mean of the dense
    finished runs with as many prunable weights; both missing where there is nothing to compare."""
    reports = read(experiment, "reports")
    final = last_rows(reports[reports["final"]])["train_flops"]
    board = board.assign(train_flops=board["member"].map(final))
    dense = board[board["density"] == 1].groupby("prunable")["train_flops"].mean()
    return board.assign(relative=board["train_flops"] / board["prunable"].map(dense).astype(float))


def best_line(board: pd.DataFrame) -> str:
    """Who is best, in words."""
    best = board.iloc[0]
    if pd.isna(best["score"]):
        return "best: nobody has reported yet"
    tested = "not tested yet"
    if not pd.isna(best["test_accuracy"]):
        tested = f"test {best['test_accuracy']:.4f}"
    kept = f"{best['alive']:,} of {best['prunable']:,} weights alive ({percent_text(best['density'])})"
    return f"best: member {best['member']}, score {best['score']:.4f}, {tested}, {kept}"


def cost_line(tables: Tables, board: pd.DataFrame) -> str:
    """How often states were taken over, and how long it all took, pauses between attempts and the
    start of processes left out."""
    exploits = int(board["exploits"].sum())
    wall, device = wall_seconds(tables), float(board["seconds"].sum())
    done = [counted(exploits, "exploit")]
    if made := merges(tables.read("events")):
        done.append(counted(len(made), "merge"))
    return f"{', '.join(done)}; {wall:,.0f} s wall after start-up, {device:,.0f} device-seconds"


def warning_lines(tables: Tables) -> list[str]:
    """A line for each kind of event that puts the results in doubt: how often, of whom, and the last one."""
    events = tables.read("events")
    told = events["kind"].isin(_WARNINGS) & (events["message"].fillna("") != "")
    return [_warning(str(kind), rows) for kind, rows in events[told].groupby("kind", sort=False)]


def _warning(kind: str, rows: pd.DataFrame) -> str:
    members = sorted(rows["member"].unique())
    shown = ", ".join(map(str, members[:_TOP])) + (", ..." if len(members) > _TOP else "")
    return f"warning: {kind} ({counted(len(rows), 'time')}, of member {shown}): {rows['message'].iloc[-1]}"


def wall_seconds(experiment: Folder | Tables) -> float:
    """The time during which at least one attempt of one member was at work, from the times of all rows."""
    tables = tables_of(experiment)
    frames = [tables.read(table, superseded=True) for table in ("members", "reports")]
    rows = pd.concat([frame[["member", "attempt", "time"]] for frame in frames])
    spans = rows.groupby(["member", "attempt"])["time"].agg(["min", "max"]).sort_values("min")
    total, until = pd.Timedelta(0), pd.Timestamp.min.tz_localize("UTC")
    for start, end in zip(spans["min"], spans["max"], strict=True):
        total += max(end - max(start, until), pd.Timedelta(0))
        until = max(until, end)
    return total.total_seconds()
