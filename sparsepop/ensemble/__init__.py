"""Several tickets together: superposed into one network, or voting; and how such networks are judged."""

from sparsepop.ensemble.combine import HOW, combine
from sparsepop.ensemble.costs import Cost, cost_of
from sparsepop.ensemble.frames import lines, overlaps, reliability
from sparsepop.ensemble.kin import common_step, nearest
from sparsepop.ensemble.lines import Point, barrier, interpolate, line
from sparsepop.ensemble.quality import Quality, assess, disagreement, fit_temperature
from sparsepop.ensemble.relations import Relations
from sparsepop.ensemble.setting import Setting
from sparsepop.ensemble.soups import Superposed, check_alike, greedy, same_mask, superpose
from sparsepop.ensemble.vote import Vote, vote

__all__ = [
    "HOW",
    "Cost",
    "Point",
    "Quality",
    "Relations",
    "Setting",
    "Superposed",
    "Vote",
    "assess",
    "barrier",
    "check_alike",
    "combine",
    "common_step",
    "cost_of",
    "disagreement",
    "fit_temperature",
    "greedy",
    "interpolate",
    "line",
    "lines",
    "nearest",
    "overlaps",
    "reliability",
    "same_mask",
    "superpose",
    "vote",
]
