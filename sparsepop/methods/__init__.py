"""Methods that make a network sparse: the pieces, and the published baselines put together from them."""

from sparsepop.methods.base import Method
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.explored import Explored
from sparsepop.methods.grow_prune import GrowPrune
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.partition import Partition
from sparsepop.methods.partition_grow import PartitionGrow
from sparsepop.methods.published import (
    acdc,
    dense,
    gap,
    gmp,
    granet,
    one_shot,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
)
from sparsepop.methods.static import Static

__all__ = [
    "DropGrow",
    "Explored",
    "GrowPrune",
    "Magnitude",
    "Method",
    "Partition",
    "PartitionGrow",
    "Static",
    "acdc",
    "dense",
    "gap",
    "gmp",
    "granet",
    "one_shot",
    "rigl",
    "rigl_itop",
    "sparse_evolution",
    "static",
]
