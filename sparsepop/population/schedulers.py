"""Ray Tune's early stopping over our members: decided once, and known to a later run of the same command."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sparsepop.population.names import member_name
from sparsepop.population.records import record_stop
from sparsepop.seeds import mix
from sparsepop.storage import Storage

SEEN = ("member", "generation", "step", "score", "density", "seconds", "final")


class Judge(FIFOScheduler):
    """Another scheduler decides who goes on, and each member that it stops gets its row before it stops.

    The scheduler knows members by numbers of their own, whichever trial trains them, and sees of a report
    what `SEEN` names, with `training_iteration` and `time_total_s` counted from the member's very start. What
    earlier runs reported is replayed to it, so that its rungs are as they were. A member that diverged is
    stopped without asking, for no percentile counts it.
    """

    def __init__(self, inner: TrialScheduler, storage: Storage, seed: int) -> None:
        super().__init__()
        self.inner = inner
        self.storage = storage
        self.seed = seed
        self._known: dict[int, Trial] = {}  # members as the inner scheduler knows them
        self._judged: dict[int, int] = {}  # the generation that was judged last, by member
        self._densities: dict[int, set[float]] = {}  # of those judged so far, by generation

    def replay(self, reports: pd.DataFrame, ended: Collection[int]) -> set[int]:
        """Show the scheduler the rows of `reports` in the order of their times; `ended` are the members that
        came to their end. Returns who else is stopped: whose last report nobody lived to judge."""
        last = reports.groupby("member")["generation"].max()
        stopped = set()
        for row in reports.sort_values("time", kind="stable").to_dict("records"):
            member = row["member"]
            decision = self._judge(None, member, row)
            if row["generation"] < last[member]:
                continue
            if member not in ended and decision == TrialScheduler.STOP and not row["final"]:
                self._note(member, row)
                stopped.add(member)
            if member in ended or member in stopped:
                self._complete(None, member, row)
        return stopped

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Make the member known, unless the replay has."""
        self._trial(tune_controller, trial.config["member"])

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """What the scheduler decides; a member that has written its last report is never stopped."""
        member = trial.config["member"]
        decision = self._judge(tune_controller, member, result)
        if result["final"]:
            return TrialScheduler.CONTINUE
        if decision == TrialScheduler.STOP:
            self._note(member, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A member is done, or stopped."""
        if "generation" in result:
            self._complete(tune_controller, trial.config["member"], result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A member has failed for good."""
        self.inner.on_trial_error(tune_controller, self._trial(tune_controller, trial.config["member"]))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """A member without a place will get none."""
        self.inner.on_trial_remove(tune_controller, self._trial(tune_controller, trial.config["member"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Who gets a free place."""
        return self.inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return self.inner.debug_string()

    def _judge(self, controller: Any, member: int, result: Mapping[str, Any]) -> str:
        # Tune shows a last result twice, and a member that was cut off may repeat a generation
        if result["generation"] <= self._judged.get(member, -1):
            return TrialScheduler.CONTINUE
        self._judged[member] = result["generation"]
        if not math.isfinite(result["score"]):
            return TrialScheduler.STOP
        self._densities.setdefault(result["generation"], set()).add(result["density"])
        return self.inner.on_trial_result(controller, self._trial(controller, member), _seen(result))

    def _complete(self, controller: Any, member: int, result: Mapping[str, Any]) -> None:
        trial = self._trial(controller, member)
        if math.isfinite(result["score"]):
            self.inner.on_trial_complete(controller, trial, _seen(result))
        else:
            self.inner.on_trial_remove(controller, trial)

    def _trial(self, controller: Any, member: int) -> Trial:
        if member not in self._known:
            name = member_name(member)
            self._known[member] = Trial("member", stub=True, trial_id=name, config={"member": member})
            with _numpy_seeded(mix(self.seed, member)):  # schedulers draw brackets from numpy's generator
                self.inner.on_trial_add(controller, self._known[member])
        return self._known[member]

    def _note(self, member: int, result: Mapping[str, Any]) -> None:
        what = f"score {result['score']:g} after generation {result['generation']}"
        reason = f"{type(self.inner).__name__} stopped it: {what}{self._unequal(result)}"
        with suppress(OSError):  # a full disk, say: the next run stops it again
            record_stop(self.storage, member, result["step"], reason)

    def _unequal(self, result: Mapping[str, Any]) -> str:
        """What a reader of a stop must know where Tune's scheduler, which knows scores alone, compared unlike
        densities."""
        met = sorted(self._densities.get(result["generation"], ()))
        if not met or met[-1] <= 1.01 * met[0]:
            return ""
        return f", at density {result['density']:g} among densities from {met[0]:g} to {met[-1]:g}"


def _seen(result: Mapping[str, Any]) -> dict[str, Any]:
    seen = {name: result[name] for name in SEEN}
    return {**seen, "training_iteration": seen["generation"], "time_total_s": seen["seconds"]}


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
