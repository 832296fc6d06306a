"""python -m sparsepop.superpose EXPERIMENT: make one network of an experiment's tickets, or let them vote."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sparsepop.results import Writer
from sparsepop.results.reader import nothing_yet
from sparsepop.results.table import counted, rich_table
from sparsepop.storage import Storage

if TYPE_CHECKING:
    from sparsepop.data import Data
    from sparsepop.ensemble import Relations, Setting
    from sparsepop.tickets import Provenance, Ticket, TicketStore

BAD_INPUT = 2
_WIDE = 10_000  # a pipe has no width to keep to: nothing is cut there
_HOW = ("uniform", "score", "greedy", "soup", "lineage", "interpolate", "vote", "all")
_STAGES = ("unpruned", "pruned", "recalibrated")
_SUPERPOSED = ("uniform", "score", "greedy")  # what any tickets of one network and density can become
_WAYS = """uniform (default): all alike; score: by validation accuracy; greedy: those alone that raise it;
soup: all alike, on the one mask that they share; lineage: the best and those that parted from it last, after
exploits; interpolate: two, at a place between them; vote: no superposition, each answers; all: single ones,
uniform, score, greedy, lineage where there are relatives, and the vote, side by side"""


@dataclass(frozen=True)
class Outcome:
    """What was made of the tickets `used`, and how: its id, what runs at inference, and what is known."""

    how: str
    id: str
    used: Sequence[Ticket]
    runs: Sequence[Ticket]
    numbers: Mapping[str, float] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it worked, 2 with one line on stderr when it could not."""
    flags = _parser().parse_args(arguments)
    try:
        _check_flags(flags)
        _run(flags)
    except (ValueError, OSError) as error:
        _tell(" ".join(str(error).split()))
        return BAD_INPUT
    return 0


def _tell(line: str) -> None:
    print(f"sparsepop.superpose: {line}", file=sys.stderr)


def _check_flags(flags: argparse.Namespace) -> None:
    """ValueError for flags of which one would silently do nothing."""
    if flags.tickets and (flags.members or flags.kind is not None):
        other = "--members" if flags.members else f"--kind {flags.kind}"
        raise ValueError(f"--tickets names the tickets itself, and {other} others: leave one of them out")
    if flags.at is not None and flags.how != "interpolate":
        raise ValueError(f"--at {flags.at:g} is a place between two tickets: give --how interpolate with it")
    shaping = {"--density": flags.density is not None, "--scope": flags.scope is not None}
    shaping["--no-recalibrate"] = flags.no_recalibrate
    if flags.how == "vote" and (given := [name for name, is_given in shaping.items() if is_given]):
        raise ValueError(
            f"a vote makes no network that {given[0]} could shape: leave it out, or take another --how"
        )


def _run(flags: argparse.Namespace) -> None:
    storage = Storage(flags.experiment)
    _check_device(flags.device)
    # late, for a wrong path must not wait for torch
    from sparsepop.ensemble import Relations
    from sparsepop.tickets import TicketStore

    store = TicketStore.of_experiment(storage)
    if not flags.tickets and not store.ids():
        raise FileNotFoundError(nothing_yet(storage, "tickets"))
    tickets, beside = _chosen(store, flags)
    data, setting = _setting([*tickets, *beside], flags)
    # nothing is kept before all of it has worked
    relations = Relations(setting, flags.split, flags.lines)
    combined = [_made(how, tickets, relations, flags) for how in _ways(tickets, setting, flags)]
    alone = [Outcome("single", ticket.id, [ticket], [ticket]) for ticket in (*tickets, *beside)]
    rows = [_row(made, setting, flags) for made in (*alone, *combined)]
    for made, row in zip((*alone, *combined), rows, strict=True):
        if made.how not in ("single", "vote"):
            store.write(_scored(made, row, data, flags.split))
        if made.how != "single" or flags.how == "all":
            _record(storage, made, row, data, flags)
    _show(storage, rows, combined, flags.split)


def _chosen(store: TicketStore, flags: argparse.Namespace) -> tuple[list[Ticket], list[Ticket]]:
    """The tickets that are combined, and those that are only judged beside them."""
    from sparsepop.choice import KIND, by_name, finite, of_kind

    against = by_name(store, flags.against)
    if flags.tickets:
        tickets = by_name(store, flags.tickets)
    else:
        besides = [ticket.id for ticket in against]
        tickets = of_kind(store, flags.kind or KIND, flags.members or (), _tell, besides)
    tickets = finite(tickets, _tell)
    ids = {ticket.id for ticket in tickets}
    return tickets, [ticket for ticket in against if ticket.id not in ids]


def _check_device(device: str) -> None:
    """ValueError where nothing can be computed on it."""
    import torch

    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"--device {device} cannot be used here ({reason}): leave it out, or give cpu"
        ) from error


def _ways(tickets: Sequence[Ticket], setting: Setting, flags: argparse.Namespace) -> list[str]:
    """What is made of the tickets."""
    from sparsepop.ensemble import check_alike, nearest

    if flags.how != "all":
        return [flags.how]
    try:
        check_alike(tickets)
    except ValueError as error:
        _tell(f"left out: superpositions, for {error}")
        return ["vote"]
    related = ["lineage"] if len(nearest(tickets, setting)) > 1 else []
    return [*_SUPERPOSED, *related, "vote"]


def _setting(tickets: Sequence[Ticket], flags: argparse.Namespace) -> tuple[Data, Setting]:
    """The data that the tickets are judged on, and how."""
    from sparsepop.data import open_data
    from sparsepop.ensemble import Setting

    source = tickets[0].provenance
    # another set may have the name that is the last part of a path
    if not (where := flags.data or source.located or source.data):
        raise ValueError("these tickets don't say what they were trained on: name it with --data")
    batch, augment = int(source.recipe.get("batch", 128)), bool(source.recipe.get("augment", True))
    try:
        data = open_data(where, flags.device)
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; or name what the tickets were trained on with --data") from error
    if other := [
        ticket for ticket in tickets if (ticket.shape, ticket.classes) != (data.shape, data.classes)
    ]:
        raise ValueError(
            f"ticket {other[0].id[:8]} is for other images than {where}: name its data with --data"
        )
    return data, Setting(data, flags.device, batch, augment)


def _made(how: str, tickets: Sequence[Ticket], relations: Relations, flags: argparse.Namespace) -> Outcome:
    from sparsepop.ensemble import combine

    if how == "vote":
        made = _voted(tickets)
    else:
        place = 0.5 if flags.at is None else flags.at
        options = {"density": flags.density, "scope": flags.scope or "global", "at": place}
        found = combine(tickets, relations.setting, how, recalibrate=not flags.no_recalibrate, **options)
        used = [ticket for ticket in tickets if ticket.id in found.ticket.provenance.parents]
        numbers = {name: getattr(found, name) for name in ("union_density", *_STAGES)}
        made = Outcome(how, found.ticket.id, used, [found.ticket], numbers)
    return replace(made, numbers={**made.numbers, **relations.of(made.used)})


def _voted(tickets: Sequence[Ticket]) -> Outcome:
    ids = sorted(ticket.id for ticket in tickets)
    return Outcome("vote", hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32], tickets, tickets)


def _row(made: Outcome, setting: Setting, flags: argparse.Namespace) -> dict[str, Any]:
    """What is told of a network or a vote; `disagreement` is that of the tickets that it was made of."""
    from sparsepop.ensemble import assess, cost_of, vote

    found = vote(made.runs, setting, flags.split)
    # a temperature says nothing of the images that it was fitted on
    other = None if flags.split == "validation" else vote(made.runs, setting, "validation").outputs
    quality = assess(found.outputs, fit_on=other)
    cost, single = cost_of(made.runs), made.how == "single"
    member = made.runs[0].provenance.member if single else None
    name = made.how if not single else made.id[:8] if member is None else f"{made.id[:8]} (member {member})"
    known = {"network": name, "density": cost.alive / cost.prunable, "alive": cost.alive}
    known |= {"prunable": cost.prunable, "inference_flops": cost.inference_flops}
    return {**known, **asdict(quality), "disagreement": made.numbers.get("disagreement", 0.0)}


def _scored(made: Outcome, row: Mapping[str, Any], data: Data, split: str) -> Ticket:
    """The new ticket with what it scored in its provenance."""
    (ticket,) = made.runs
    if not all(_is_of(parent.provenance, data) for parent in made.used):
        # on other data than its own it has another score
        return ticket
    known = {"validation_accuracy": made.numbers["recalibrated"]}
    known |= {f"{split}_accuracy": row["accuracy"], f"{split}_loss": row["nll"]}
    return replace(ticket, provenance=replace(ticket.provenance, metrics=known))


def _is_of(source: Provenance, data: Data) -> bool:
    """Whether a ticket from there was trained on `data`; older ones know a folder by its last part alone."""
    if not source.located:
        return source.data in (data.name, PurePath(data.name).name)
    return _place(source.located) == _place(data.name)


def _place(where: str) -> str:
    """A data folder's path in one spelling; a data set's name as it is."""
    return os.path.realpath(os.path.expanduser(where)) if os.sep in where else where


def _record(
    storage: Storage, made: Outcome, row: Mapping[str, Any], data: Data, flags: argparse.Namespace
) -> None:
    more = ("temperature", "scaled_nll", "scaled_calibration_error")
    columns = ("accuracy", "nll", "calibration_error", "disagreement", "alive", "prunable", "inference_flops")
    writer = Writer(storage, 0, 0)
    writer.add(
        "ensembles",
        ensemble=made.id,
        kind=made.how,
        tickets=[ticket.id for ticket in made.used],
        split=flags.split,
        numbers={**{name: row[name] for name in more}, **made.numbers},
        **{name: row[name] for name in columns},
    )
    # no member writes this table. The id says what network or vote it is, the rest on which images it was
    # judged and what was asked of it: the same again takes its place, and nothing else does
    asked = hashlib.sha256(json.dumps([data.name, flags.lines]).encode()).hexdigest()[:8]
    writer.flush(f"{made.how}-{made.id}-{flags.split}-{asked}")


def _show(
    storage: Storage, rows: Sequence[Mapping[str, Any]], combined: Sequence[Outcome], split: str
) -> None:
    import pandas as pd

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    count = len(rows) - len(combined)
    console.print(rich_table(pd.DataFrame(rows), f"{counted(count, 'ticket')} of {storage} on {split}"))
    for made in combined:
        told = [f"{name} {value:.4g}" for name, value in made.numbers.items() if name not in _STAGES]
        if stages := [f"{made.numbers[name]:.4g} {name}" for name in _STAGES if name in made.numbers]:
            told.append(f"validation accuracy {', '.join(stages)}")
        kept = "" if made.how == "vote" else f" ticket {made.id},"
        line = f"{made.how}:{kept} made of {len(made.used)}: {'; '.join(told)}"
        console.print(line, markup=False, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsepop.superpose", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("experiment", help="folder or URI of an experiment with finished members")
    parser.add_argument("--how", choices=_HOW, default="uniform", help=_WAYS)
    parser.add_argument("--tickets", nargs="+", metavar="ID", help="these alone (beginnings of ids will do)")
    parser.add_argument("--members", nargs="+", type=int, metavar="N", help="those of these members alone")
    parser.add_argument(
        "--kind",
        help="cheap: those inside members that ran Sup-tickets; early: those taken in mid-training "
        "(default: member, those of finished members)",
    )
    parser.add_argument("--at", type=float, help="0: the first, 1: the second (default: 0.5)")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="[EXPERIMENT:]ID",
        help="judge these beside them, combined with none: a denser one, say, of another experiment or store",
    )
    parser.add_argument("--data", help="a data set's name or folder, where the tickets' own is not found")
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="test",
        help="default: test; on validation no temperature is fitted, which takes a split of its own",
    )
    parser.add_argument("--density", type=float, help="of the new ticket (default: that of the tickets)")
    parser.add_argument("--scope", choices=("global", "layer"), help="default: global")
    parser.add_argument("--no-recalibrate", action="store_true", help="leave BatchNorm's statistics averaged")
    parser.add_argument("--lines", action="store_true", help="also the loss between consecutive tickets")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    return parser


if __name__ == "__main__":
    sys.exit(main())
