"""Numbers as functions of the step, as values: frozen, comparable, cheap to call."""

from sparsepop.schedule.base import (
    Constant,
    Schedule,
    as_schedule,
    check_whole,
    extremes,
    last_change,
    lows,
    peaks,
)
from sparsepop.schedule.cycles import Cyclic, Restarts
from sparsepop.schedule.due import Every, Phases
from sparsepop.schedule.ramps import Cosine, Cubic, Linear, Milestones, Ramp, Warmup
from sparsepop.schedule.two_phases import Triangular, TwoPhases, split

__all__ = [
    "Constant",
    "Cosine",
    "Cubic",
    "Cyclic",
    "Every",
    "Linear",
    "Milestones",
    "Phases",
    "Ramp",
    "Restarts",
    "Schedule",
    "Triangular",
    "TwoPhases",
    "Warmup",
    "as_schedule",
    "check_whole",
    "extremes",
    "last_change",
    "lows",
    "peaks",
    "split",
]
