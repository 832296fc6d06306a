"""Parallel grow-and-prune without Ray: who owns what, the merge at a round's end, and a simulation."""

from sparsepop.merge.combine import combine
from sparsepop.merge.owners import RESTS, owners_of
from sparsepop.merge.round import gather, merge
from sparsepop.merge.simulate import Round, simulate
from sparsepop.merge.statistics import recalibrate
from sparsepop.merge.traffic import bytes_down, bytes_up

__all__ = [
    "RESTS",
    "Round",
    "bytes_down",
    "bytes_up",
    "combine",
    "gather",
    "merge",
    "owners_of",
    "recalibrate",
    "simulate",
]
