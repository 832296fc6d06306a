"""What a trial, and the driver after it, write into the tables of an experiment."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sparsepop.describe import to_json
from sparsepop.member import Member
from sparsepop.population.names import member_name
from sparsepop.results import Writer
from sparsepop.storage import Storage
from sparsepop.train import Report


class Records:
    """The rows of one attempt at one member; nothing is on storage before `flush`."""

    def __init__(self, storage: Storage, member: int, seed: int, device: str) -> None:
        self.seed = seed
        self.device = device
        self.writer = Writer(storage, member, claim_attempt(storage, member))

    def report(self, generation: int, report: Report, score: float) -> None:
        """Rows of `reports` and `layers`, and of `events` for what the methods noted."""
        self.writer.add("reports", generation=generation, score=score, **report_row(report))
        for layer in report.layers:
            row = {"layer": layer.name, "size": layer.size, "alive": layer.alive}
            row["numbers"] = dict(layer.numbers)
            self.writer.add("layers", generation=generation, step=report.step, **row)
        for note in report.notes:
            more = {"message": note.message, "numbers": dict(note.numbers)}
            self.event(note.kind, generation, note.step, **more)

    def event(self, kind: str, generation: int, step: int, **row: Any) -> None:
        """A row of `events`."""
        self.writer.add("events", generation=generation, step=step, kind=kind, **row)

    def status(self, status: str, member: Member, hp: Mapping[str, Any]) -> None:
        """A row of `members`."""
        self.writer.add(
            "members",
            status=status,
            step=member.step,
            recipe=json.dumps(to_json(member.recipe)),
            hp=json.dumps(to_json(hp)),
            seed=self.seed,
            git_sha=git_sha(),
            hardware=json.dumps(hardware(self.device)),
        )

    def ticket(self, generation: int, step: int, **row: Any) -> None:
        """A row of `tickets`."""
        self.writer.add("tickets", generation=generation, step=step, **row)

    def flush(self, tag: str) -> None:
        """Write what was collected."""
        self.writer.flush(tag)


class NoRecords:
    """The rows of a process that does not lead: none."""

    def report(self, generation: int, report: Report, score: float) -> None:
        pass

    def event(self, kind: str, generation: int, step: int, **row: Any) -> None:
        pass

    def status(self, status: str, member: Member, hp: Mapping[str, Any]) -> None:
        pass

    def ticket(self, generation: int, step: int, **row: Any) -> None:
        pass

    def flush(self, tag: str) -> None:
        pass


def record_failure(storage: Storage, member: int, step: int, message: str) -> None:
    """The row of a member that failed for good at `step`, written by the driver for its newest attempt."""
    _record_end(storage, member, "failed", step, message)


def record_stop(storage: Storage, member: int, step: int, message: str) -> None:
    """The row of a member that was stopped early at `step`, written by the driver for its newest attempt."""
    _record_end(storage, member, "stopped", step, message)


def _record_end(storage: Storage, member: int, status: str, step: int, message: str) -> None:
    attempts = _attempts(storage, member)
    writer = Writer(storage, member, max(attempts) if attempts else claim_attempt(storage, member))
    writer.add("members", status=status, step=step, message=message)
    writer.flush(status)


def claim_attempt(storage: Storage, member: int) -> int:
    """A number for this attempt at `member` that no other attempt has or will have."""
    attempt = 1 + max(_attempts(storage, member), default=-1)
    while True:
        try:
            storage.write(f"{_attempts_at(member)}/{attempt:04d}", b"", exclusive=True)
            return attempt
        except FileExistsError:
            attempt += 1


def _attempts(storage: Storage, member: int) -> list[int]:
    return [int(name) for name in storage.names(_attempts_at(member))]


def _attempts_at(member: int) -> str:
    return f"attempts/{member_name(member)}"


def report_row(report: Report) -> dict[str, Any]:
    """A report as columns of the table `reports`."""
    same = ("step", "epoch", "seconds", "lr", "train_loss", "density", "alive", "prunable", "train_flops")
    more = ("inference_flops", "dense_flops", "bytes", "final")
    row = {name: getattr(report, name) for name in same + more}
    row |= {"validation_loss": report.validation.loss, "validation_accuracy": report.validation.accuracy}
    if report.test is not None:
        row |= {"test_loss": report.test.loss, "test_accuracy": report.test.accuracy}
    counts = dict(report.learnables)
    return row | {"others": sum(counts.values()), "learnables": counts, "numbers": dict(report.numbers)}


def score_of(report: Report, name: str) -> float:
    """The number that members are compared by: a column of `reports` or one of a method's numbers; NaN once
    the training loss is not finite, for a network of NaNs still has an accuracy. ValueError when there is
    none."""
    row = report_row(report)
    value = row.get(name, report.numbers.get(name))
    if not isinstance(value, int | float):
        known = sorted(key for key, each in row.items() if isinstance(each, float)) + sorted(report.numbers)
        raise ValueError(f"no report has a score called {name!r}: choose one of {', '.join(known)}")
    return float(value) if math.isfinite(value) and math.isfinite(report.train_loss) else math.nan


@cache
def git_sha() -> str:
    """The commit that the package runs from; empty outside a repository, or without git."""
    folder = Path(__file__).resolve().parent
    command = ["git", "rev-parse", "HEAD"]
    try:
        call = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return call.stdout.strip()


def hardware(device: str) -> dict[str, Any]:
    """What a member ran on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    found = {"device": device, "name": name, "threads": torch.get_num_threads(), "host": platform.node()}
    return found | {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
