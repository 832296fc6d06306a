"""The end of a run, for people: leaderboard, exploits, where the results lie."""

from __future__ import annotations

from rich.console import Console

from sparsepop.results.lineage import leaderboard
from sparsepop.results.reader import read
from sparsepop.storage import Storage


def print_summary(storage: Storage, console: Console) -> None:
    """Print the leaderboard, the best member and the number of exploits of the experiment in `storage`."""
    from sparsepop.results.__main__ import _rich

    board = leaderboard(storage)
    console.print(_rich(board, f"leaderboard of {storage}"))
    events = read(storage, "events")
    exploits = int((events["kind"] == "exploit").sum())
    if len(board):
        best = board.iloc[0]
        console.print(
            f"best: member {best['member']}, score {best['score']:.4f}, test accuracy {best['test_accuracy']:.4f}, "
            f"{best['alive']:,} of {best['prunable']:,} weights alive; {exploits} exploits"
        )
    console.print(f"results: {storage}", soft_wrap=True)
