"""What is looked after between two steps of a member: that it moves, and that its machine stays."""

from __future__ import annotations

import faulthandler
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from torch import Tensor

from sparsepop.methods.base import Batches

BEAT = 1.0  # seconds: how often a member looks whether its machine is to be taken away
HUNG = 70  # exit status of a process that ended itself


class Pulse:
    """A data set that notes when it is read: a member that reads nothing for `patience` seconds is hung.

    Then `report` is told where it hangs and the process ends itself, so that the member is tried again.
    Before a training batch, `notice` is asked once a second whether this machine is to be taken away; when it
    is, `save` is called, until it says that it has saved.
    """

    def __init__(
        self,
        data: Batches,
        patience: float,
        *,
        notice: Callable[[], bool],
        save: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        self.data = data
        self.patience = patience
        self._notice = notice
        self._save = save
        self._report = report
        self._saved = False
        self._looked = 0.0
        self._beaten = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.get_ident()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="pulse")
        self._watcher.start()

    def steps_per_epoch(self, size: int) -> int:
        return self.data.steps_per_epoch(size)

    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]:
        self.beat()
        self._look()
        return self.data.batch(seed, step, size, augment=augment, rank=rank, world=world)

    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.data.batches(split, size, rank=rank, world=world):
            self.beat()
            yield batch

    def beat(self) -> None:
        """Say that the member moves."""
        self._beaten = time.monotonic()

    def rest(self) -> None:
        """Say that the member waits for something that may take long, until the next beat."""
        self._beaten = math.inf

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()
        self._watcher.join()
        faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        if self._saved or self._beaten - self._looked < BEAT:
            return
        self._looked = self._beaten
        if self._notice():
            self._saved = self._save()

    def _watch(self) -> None:
        pause = min(BEAT, self.patience / 4)
        while not self._stopped.wait(pause):
            # a thread that never gives Python's lock back stops this one too, but not that of faulthandler
            faulthandler.dump_traceback_later(2 * self.patience, exit=True, file=sys.__stderr__ or 2)
            if time.monotonic() - self._beaten > self.patience:
                self._end()

    def _end(self) -> None:
        frame = sys._current_frames().get(self._thread)
        where = "".join(traceback.format_stack(frame)) if frame else "unknown"
        try:
            self._report(f"nothing read for {self.patience:g} s, so it was ended; it was here:\n{where}")
        finally:
            os._exit(HUNG)
