"""Parallel grow-and-prune without Ray: who owns what, the merge at a round's end, and a simulation."""

from sparsepop.merge.agreement import agreed
from sparsepop.merge.combine import join, part_of
from sparsepop.merge.owners import RESTS, owners_of
from sparsepop.merge.parcel import merged_parcel, pack, parcel, unpack, weight_of
from sparsepop.merge.round import COLLAPSE, Round, end_round
from sparsepop.merge.simulate import simulate
from sparsepop.merge.statistics import recalibrate

__all__ = [
    "COLLAPSE",
    "RESTS",
    "Round",
    "agreed",
    "end_round",
    "join",
    "merged_parcel",
    "owners_of",
    "pack",
    "parcel",
    "part_of",
    "recalibrate",
    "simulate",
    "unpack",
    "weight_of",
]
