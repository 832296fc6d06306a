"""Experiments as the real Writer leaves them, for the tests of what people look at after a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from sparsepop.results import Writer
from sparsepop.storage import Storage

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
PRUNABLE = 50_200


def clock(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def report_row(
    step: int, score: float, density: float = 0.05, final: bool = False, **row: Any
) -> dict[str, Any]:
    """A row of `reports` that takes 0.1 s and 1 GFLOP a step when dense, tested a little below its score."""
    alive = round(density * PRUNABLE)
    known: dict[str, Any] = {"generation": step // 100, "step": step, "time": clock(step / 10)}
    known |= {"score": score, "validation_accuracy": score, "test_accuracy": score - 0.01 if final else None}
    known |= {"density": density, "alive": alive, "prunable": PRUNABLE, "final": final, "seconds": step / 10}
    return known | {"train_flops": 1e9 * density * step} | row


def write_member(
    storage: Storage,
    member: int,
    hp: dict[str, Any],
    scores: Sequence[float],
    *,
    status: str = "done",
    exploits: Sequence[tuple[int, int, dict[str, Any]]] = (),
    **row: Any,
) -> None:
    """One member with a score every 100 steps; exploits are (step, donor, hp after)."""
    writer, last = Writer(storage, member, 0), 100 * len(scores)
    writer.add("members", status="started", step=0, hp=json.dumps(hp), time=clock(0))
    for place, score in enumerate(scores):
        step = 100 * (place + 1)
        writer.add("reports", **report_row(step, score, final=status == "done" and step == last, **row))
    for step, donor, after in exploits:
        at: dict[str, Any] = {"generation": step // 100, "step": step, "time": clock(step / 10)}
        texts = {"hp_before": json.dumps(hp), "hp_after": json.dumps(after)}
        writer.add("events", kind="exploit", donor=donor, **texts, **at)
        hp = after
    if status != "started":
        writer.add("members", status=status, step=last, hp=json.dumps(hp), time=clock(last / 10))
    writer.flush("all")


def write_family(storage: Storage) -> None:
    """Three members and three exploits; the best is 0, by way of 1 (to step 200) and 2 (to step 100)."""
    first: dict[str, Any] = {"lr": 0.001, "fraction": 0.3, "kind": "cosine", "batch": 64}
    better, best = first | {"lr": 0.03, "kind": "linear"}, first | {"lr": 0.0332, "fraction": 0.41}
    write_member(storage, 0, first, [0.1, 0.5, 0.98, 0.99], exploits=[(200, 1, best)])
    write_member(storage, 1, first | {"lr": 0.002}, [0.2, 0.95, 0.96, 0.97], exploits=[(100, 2, better)])
    write_member(storage, 2, first | {"lr": 0.02}, [0.9, 0.92, 0.91, 0.93], exploits=[(300, 0, best)])


def write_start(storage: Storage, member: int, donor: int, step: int) -> None:
    """The common start of a member, which takes the state that the donor has at a step."""
    writer = Writer(storage, member, 0)
    at: dict[str, Any] = {"generation": step // 100, "step": step, "time": clock(step / 10)}
    writer.add("events", kind="start", donor=donor, **at)
    writer.flush("start")


def write_grid(storage: Storage, seeds: int = 3) -> None:
    """Dense, and static and RigL at two densities, each with several seeds."""
    runs = [("dense", 1.0), *((name, density) for name in ("static", "rigl") for density in (0.1, 0.05))]
    for place, (name, density) in enumerate(runs):
        for seed in range(seeds):
            score = {"dense": 0.95, "static": 0.85, "rigl": 0.9}[name] + density / 10 + 0.01 * (seed - 1)
            run = {"run": [name, density]}
            write_member(storage, place * seeds + seed, run, [0.5, score], density=density)


def write_merge(storage: Storage, member: int, step: int, **more: Any) -> None:
    """What a member that is superposed with all others notes of it; `merge`: joined with them."""
    kind, overlap = more.pop("kind", "superpose"), more.pop("overlap", 0.5)
    numbers = {"round_end": step, "members": 0.5, "bytes_up": 1.0 + member, **more}
    writer = Writer(storage, member, 0)
    writer.add(
        "events",
        **{"kind": kind, "generation": step // 100, "step": step, "time": clock(step / 10)},
        **{"overlap": overlap, "numbers": numbers},
    )
    writer.flush(f"merge{step}")


def write_merged(storage: Storage) -> None:
    """Three members, the last two of which begin at step 100, are superposed at steps 200 and 300."""
    write_member(storage, 0, {"lr": 0}, [0.3, 0.5, 0.7, 0.9])
    for member in (1, 2):
        writer = Writer(storage, member, 0)
        writer.add("members", status="started", step=100, hp=json.dumps({"lr": member}), time=clock(10))
        for step in (200, 300, 400):
            writer.add("reports", **report_row(step, step / 1000 + 0.1 * member, final=step == 400))
        writer.flush("all")
    for member in range(3):
        for step in (200, 300):
            write_merge(storage, member, step)
