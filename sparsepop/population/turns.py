"""Turn-taking: more members than places, none of them left behind."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler


class Turns(FIFOScheduler):
    """Whoever has finished a generation gives its place to a waiting member that has finished fewer.

    So nobody falls behind for want of a place, and one that waits at a synchronous exchange gives its place
    to one it waits for. Members save before they report, so a paused one goes on from storage and needs no
    checkpoint of Tune's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._done: dict[str, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """PAUSE when a member without a place has finished fewer generations."""
        self._done[trial.trial_id] = result["generation"]
        if result.get("final"):
            return TrialScheduler.CONTINUE
        behind = self._waiting(tune_controller)
        if behind and self._generation(behind[0]) < result["generation"]:
            return TrialScheduler.PAUSE
        return TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The member without a place that has finished fewest generations."""
        waiting = self._waiting(tune_controller)
        return waiting[0] if waiting else None

    def _waiting(self, tune_controller: Any) -> list[Trial]:
        idle = (Trial.PENDING, Trial.PAUSED)
        trials = [trial for trial in tune_controller.get_trials() if trial.status in idle]
        return sorted(trials, key=self._generation)

    def _generation(self, trial: Trial) -> int:
        # below those who wait, with none finished, for somebody else to start
        return self._done.get(trial.trial_id, -1)
