"""Several members made one, without Ray: the rounds of parallel grow-and-prune and a simulation of them, and
superposition.
"""

from sparsepop.merge.agreement import common_rounds
from sparsepop.merge.combine import join, part_of
from sparsepop.merge.owners import owners_of
from sparsepop.merge.parcel import merged_parcel, old_parcel, pack, parcel, unpack, weight_of
from sparsepop.merge.round import COLLAPSE, Round, end_round
from sparsepop.merge.simulate import simulate
from sparsepop.merge.superposition import FAR_APART, Superposition, superpose_states

__all__ = [
    "COLLAPSE",
    "FAR_APART",
    "Round",
    "Superposition",
    "common_rounds",
    "end_round",
    "join",
    "merged_parcel",
    "old_parcel",
    "owners_of",
    "pack",
    "parcel",
    "part_of",
    "simulate",
    "superpose_states",
    "unpack",
    "weight_of",
]
