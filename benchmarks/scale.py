"""python -m benchmarks.scale: what a large population's exchange costs, with members that train nothing."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

from rich.console import Console

from benchmarks.crowd import Case, Measured, measure
from benchmarks.measure import show, verdict
from sparsepop.population.launch import cluster

TARGET_MEMBERS, TARGET_SECONDS = 256, 1.0
COLUMNS = (
    "control, s",
    "fastest, s",
    "decisions/s",
    "actor CPU, s",
    "CPU, ms/member",
    "own files, s",
    "restart, s",
    "actor, MB",
    "target",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    flags = _parser().parse_args(arguments)
    os.environ.setdefault("RAY_worker_niceness", "0")
    sizes = flags.members or ([16, 64] if flags.quick else [16, 64, 256, 1000])
    generations = 2 if flags.quick else flags.generations
    with tempfile.TemporaryDirectory(prefix="sparsepop-benchmark-") as folder, cluster(None):
        root = flags.storage or folder
        cases = [
            Case(root, members, synchronous, generations, flags.state_kb * 1024)
            for synchronous in (True, False)
            for members in sizes
        ]
        rows = [_row(case, measure(case)) for case in cases]
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    console = Console(width=150)
    show(console, "A generation of a population whose members train nothing", ("members", *COLUMNS), rows)
    console.print(
        f"{generations} generations each, after one that is not counted; load per CPU now: {load:.1f}"
    )
    return 0


def _row(case: Case, measured: Measured) -> list[str]:
    kind = "synchronous" if case.synchronous else "asynchronous"
    target = TARGET_SECONDS if case.members <= TARGET_MEMBERS else None
    return [
        f"{case.members} {kind}",
        f"{measured.control.median:.3f}",
        f"{measured.control.low:.3f}",
        f"{case.members / measured.control.median:.0f}",
        f"{measured.cpu:.3f}",
        f"{1000 * measured.cpu / case.members:.2f}",
        f"{measured.files.median:.2f}",
        f"{measured.restart:.2f}",
        f"{measured.memory / 2**20:.0f}",
        verdict(measured.control.median, target),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--quick", action="store_true", help="few members and generations: a check that it runs"
    )
    parser.add_argument(
        "--members", type=int, nargs="+", help="sizes of populations (default 16 64 256 1000)"
    )
    parser.add_argument("--generations", type=int, default=5, help="generations that are counted (default 5)")
    parser.add_argument("--state-kb", type=int, default=256, help="size of a member's state (default 256)")
    parser.add_argument("--storage", help="folder or URI (default: a temporary folder)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
