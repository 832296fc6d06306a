"""python -m benchmarks.tickets: storing, loading and superposing tickets of a ResNet-50 at 99% sparsity."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.measure import Spread, show, take_turns, verdict
from benchmarks.memory import peak_bytes
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import superpose
from sparsepop.ledger import state_bytes
from sparsepop.member import Member, Task
from sparsepop.methods import static
from sparsepop.recipe import Recipe
from sparsepop.storage import Storage
from sparsepop.tickets import Ticket, TicketStore, take

STORE_TARGET, MERGE_TARGET, COPIES_TARGET = 0.5, 5.0, 2.0  # seconds, seconds, dense copies
TASK = Task((3, 32, 32), 10)
DENSITY, TICKETS, ROUNDS = 0.01, 8, 5


class Unjudged(Setting):
    """Networks are not run: what that costs is their business, not the merge's."""

    def accuracy(self, network: Ticket | nn.Module, split: str = "validation") -> float:
        """Nothing is known of it."""
        return 0.0

    def recalibrate(self, model: nn.Module) -> None:
        """Nothing to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    flags = _parser().parse_args(arguments)
    model = "resnet-50-w4" if flags.quick else "resnet-50"
    members = (_member(model, seed) for seed in range(TICKETS))
    tickets = [take(member) for member in members]
    dense = tickets[0].state()
    console = Console(width=120)
    title = f"{model}, {DENSITY:.0%} of its weights, {state_bytes(dense.values()) / 2**20:.1f} MiB dense"
    with tempfile.TemporaryDirectory(prefix="sparsepop-benchmark-") as folder:
        _report_storing(console, title, tickets[0], dense, Path(folder))
    _report_merging(console, tickets, dense)
    return 0


def _report_storing(
    console: Console, title: str, ticket: Ticket, dense: dict[str, Tensor], folder: Path
) -> None:
    store, file = TicketStore(Storage(str(folder))), folder / "dense.pt"
    stored = folder / store.path(store.write(ticket))
    torch.save(dense, file)

    def write() -> None:
        stored.unlink(missing_ok=True)  # it is there already otherwise
        store.write(ticket)

    runs = {
        "store a ticket": write,
        "load it": lambda: store.read(ticket.id).state(),
        "torch.save of the dense state": lambda: torch.save(dense, file),
        "torch.load of it": lambda: torch.load(file),
    }
    times = take_turns(runs, ROUNDS)
    targets = dict.fromkeys(list(runs)[:2], STORE_TARGET)
    sizes = [stored.stat().st_size] * 2 + [file.stat().st_size] * 2
    rows = []
    for (name, each), size in zip(times.items(), sizes, strict=True):
        spread = Spread.of(each)
        judged = verdict(spread.median, targets.get(name))
        rows.append([name, *spread.cells(), f"{size / 2**20:.2f}", judged])
    show(console, title, ("what", "median, s", "least", "most", "MiB", "target"), rows)


def _report_merging(console: Console, tickets: Sequence[Ticket], dense: dict[str, Tensor]) -> None:
    def merge() -> None:
        superpose(tickets, Unjudged(data=None))  # type: ignore[arg-type]

    copies = peak_bytes(merge, torch.device("cpu")) / state_bytes(dense.values())
    began = time.perf_counter()
    merge()
    seconds = time.perf_counter() - began
    rows = [
        ["seconds", f"{seconds:.2f}", verdict(seconds, MERGE_TARGET)],
        ["dense copies held at most", f"{copies:.2f}", verdict(copies, COPIES_TARGET)],
    ]
    show(console, f"Superposing {len(tickets)} of them", ("what", "measured", "target"), rows)


def _member(model: str, seed: int) -> Member:
    member = Member.build(Recipe(model, 1, static(DENSITY)), seed, TASK)
    member.step = 1  # trained or not, its ticket is as large
    return member


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tickets", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a narrow network: a check that it runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
