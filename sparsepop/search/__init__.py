"""Searches: which members an experiment has, and what they give each other. Plain values."""

from sparsepop.search.independent import Grid, Sampled, Tuned
from sparsepop.search.merged import PARTITION, PartitionParallel, SuperposeParallel
from sparsepop.search.pbt import PBT
from sparsepop.search.start import Start

Search = Grid | Sampled | PBT | PartitionParallel | SuperposeParallel | Tuned
Exchanging = PBT | PartitionParallel | SuperposeParallel

__all__ = [
    "PARTITION",
    "PBT",
    "Exchanging",
    "Grid",
    "PartitionParallel",
    "Sampled",
    "Search",
    "Start",
    "SuperposeParallel",
    "Tuned",
]
