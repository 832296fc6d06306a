"""python -m benchmarks.exchange: what an exchange costs beyond moving bytes, a population beyond members."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

from rich.console import Console

from benchmarks import populations, transfer
from sparsepop.population.launch import cluster

TARGET_MS, TARGET_RATIO = 100.0, 1.10
LONG_ENOUGH = 20.0  # seconds of a generation from which TARGET_RATIO holds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    flags = _parser().parse_args(arguments)
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="sparsepop-benchmark-") as folder:
        if flags.only != "population":
            # Ray gives its workers a lower priority than the rest of the machine
            os.environ.setdefault("RAY_worker_niceness", "0")
            with cluster(None):
                measured = transfer.measure(folder, 5 if flags.quick else 40)
            transfer.report(console, measured, TARGET_MS)
        if flags.only != "transfer":
            seconds = flags.seconds or (2.0 if flags.quick else LONG_ENOUGH)
            target = TARGET_RATIO if seconds >= LONG_ENOUGH else None
            generations = 3 if flags.quick else 5
            populations.report(console, populations.measure(folder, seconds, generations), target)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exchange", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--quick", action="store_true", help="short generations and few rounds: a check that it runs"
    )
    parser.add_argument("--seconds", type=float, help="length of a generation (default 20, --quick 2)")
    parser.add_argument("--only", choices=("transfer", "population"), help="one of the two measurements")
    return parser


if __name__ == "__main__":
    sys.exit(main())
