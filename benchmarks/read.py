"""python -m benchmarks.read: how long a large experiment takes to read, as it was left and compacted."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence

from rich.console import Console

from benchmarks.measure import Spread, show, verdict
from sparsepop.results import Writer, compact, read
from sparsepop.storage import Storage

TARGET_SECONDS = 2.0
ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    flags = _parser().parse_args(arguments)
    members, reports = (20, 20) if flags.quick else (flags.members, flags.reports)
    with tempfile.TemporaryDirectory(prefix="sparsepop-benchmark-") as folder:
        storage = Storage(folder)
        for member in range(members):
            _write_member(storage, member, reports, flags.parts)
        rows = [_row(storage, "as members left it", None)]
        begun = time.perf_counter()
        compact(storage)
        spent = time.perf_counter() - begun
        rows.append(_row(storage, "compacted", None if flags.quick else TARGET_SECONDS))
    console = Console(width=120)
    heads = ("tables", "files", "rows", "fastest, s", "median, s", "CPU, s", "target")
    show(console, f"Reading `reports` of {members} members into pandas, {ROUNDS} times", heads, rows)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    console.print(f"compaction of all tables: {spent:.1f} s; load per CPU now: {load:.1f}")
    return 0


def _write_member(storage: Storage, member: int, reports: int, parts: int) -> None:
    """The rows that a member writes, in `parts` files of reports and two of members."""
    writer = Writer(storage, member, 0)
    writer.add("members", status="started", step=0, hp={"lr": 0.1, "fraction": 0.3})
    writer.flush("started")
    costs = {"train_flops": 1e12, "inference_flops": 1e6, "dense_flops": 1e7, "bytes": 10**6}
    for place in range(reports):
        counts = {"alive": 2510, "prunable": 50_200, "others": 410, "learnables": {"bias": 410}}
        scores = {"score": 0.5, "validation_accuracy": 0.5, "validation_loss": 1.0, "train_loss": 1.0}
        at = {"generation": place, "step": 100 * place, "seconds": float(place), "lr": 0.1, "density": 0.05}
        writer.add("reports", **at, **scores, **counts, **costs, numbers={"explored": 0.3, "phase": 1.0})
        if (place + 1) % -(-reports // parts) == 0:
            writer.flush(f"g{place:05d}")
    writer.add("members", status="done", step=100 * reports)
    writer.flush("done")


def _row(storage: Storage, name: str, target: float | None) -> list[str]:
    times, cpu = [], []
    for _ in range(ROUNDS):
        wall, used = time.perf_counter(), time.process_time()
        frame = read(storage, "reports")
        times.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    files = sum(len(storage.names(table)) for table in ("members", "reports"))
    seconds = Spread.of(times)
    numbers = [f"{files:,}", f"{len(frame):,}", f"{seconds.low:.2f}", f"{seconds.median:.2f}"]
    return [name, *numbers, f"{min(cpu):.2f}", verdict(seconds.median, target)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.read", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a small experiment: a check that it runs")
    parser.add_argument("--members", type=int, default=1000, help="default 1000")
    parser.add_argument("--reports", type=int, default=200, help="of each member (default 200)")
    parser.add_argument("--parts", type=int, default=1, help="files of each member's reports (default 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
