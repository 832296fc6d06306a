"""The driver's eyes on a running population: it shows progress and settles what failed for good."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from sparsepop.population.progress import Progress
from sparsepop.population.records import record_failure
from sparsepop.storage import Storage

LONGEST = 8000  # characters of a traceback that are kept
_FRAME = re.compile(r'File "([^"<]+)", line (\d+)')
_PACKAGE = Path(__file__).parents[1]
_INSTALLED = {"site-packages", "dist-packages", *(f"python3.{minor}" for minor in range(10, 20))}
PATIENCE = 10.0  # seconds that Tune's loop, and with it all that starts or ends, waits for the exchange


class Watch(Progress):
    """Progress that also records members that failed for good, and lets the others stop waiting for them."""

    def __init__(
        self,
        storage: Storage,
        exchange: Any,
        name: str,
        members: int,
        finished: int,
        *,
        early: str = "stopped",
    ) -> None:
        super().__init__(name, members, finished, early=early)
        self.storage = storage
        self.exchange = exchange
        self.failed: dict[int, str] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A member has reached the end of a generation: its failures before are forgiven."""
        super().on_trial_result(iteration, trials, trial, result, **info)
        if not result["waiting"]:
            # Tune counts failures over the whole life of a trial, and spot machines go again and again
            trial.run_metadata.num_failures = 0

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune gives a trial up: no attempt is left."""
        super().on_trial_error(iteration, trials, trial, **info)
        member = trial.config["member"]
        self.failed[member], details = _failure(trial)
        step = self.rows[member]["step"] if member in self.rows else 0
        try:
            record_failure(self.storage, member, step, f"{self.failed[member]}\n{details}")
        except OSError as error:  # a full disk may be why it failed
            self.failed[member] += f" (and that could not be recorded: {error})"
        if self.exchange is not None:
            with suppress(OSError):  # the same, or it takes long; the exchange knows by then
                ray.get(self.exchange.retire.remote(member), timeout=PATIENCE)


def _failure(trial: Any) -> tuple[str, str]:
    """The last error of a trial: in one line, and in full."""
    error = None
    if trial.pickled_error_file:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    text = str(error) if error else Path(trial.error_file).read_text()
    return one_line(error, text), text[-LONGEST:]


def one_line(error: Exception | None, text: str) -> str:
    """What went wrong: the exception that training raised, or that the process died."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    if isinstance(error, ray.exceptions.RayActorError):
        return f"its process died ({lines[0]})"
    return f"{lines[-1]}{_place(lines)}"


def _place(lines: Sequence[str]) -> str:
    """Where in their own code users should look, " (file:line)": the innermost frame of a traceback's lines
    outside of Python, installed packages and this one; "" where there is none."""
    frames = [(Path(found[1]), found[2]) for line in lines if (found := _FRAME.match(line))]
    own = [
        f" ({file.name}:{line})"
        for file, line in frames
        if not (_INSTALLED & set(file.parts) or file.is_relative_to(_PACKAGE))
    ]
    return own[-1] if own else ""
