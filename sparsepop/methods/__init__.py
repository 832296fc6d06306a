"""Methods that make a network sparse: the pieces, and the published baselines put together from them."""

from sparsepop.methods.at_density import AtDensity
from sparsepop.methods.base import Method
from sparsepop.methods.cut import Cut
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.dst import Thresholds
from sparsepop.methods.dyrelu import PhaseDyReLU
from sparsepop.methods.equal import steps_to_spend, weight_steps
from sparsepop.methods.explored import Explored
from sparsepop.methods.fan_in import MinFanIn
from sparsepop.methods.gradient_flow import GradientFlow
from sparsepop.methods.grow_prune import GrowPrune
from sparsepop.methods.halo import Halo
from sparsepop.methods.halo_rates import halo_rates
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.near_zero import NearZero
from sparsepop.methods.partition import Partition
from sparsepop.methods.partition_grow import PartitionGrow
from sparsepop.methods.penalties import MCP, Lasso
from sparsepop.methods.published import (
    acdc,
    dense,
    east,
    gap,
    gmp,
    granet,
    one_shot,
    parallel_gap,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
    sup_tickets,
)
from sparsepop.methods.reach import Reachable
from sparsepop.methods.shared_lasso import SharedLasso
from sparsepop.methods.sharing import ShareWeights
from sparsepop.methods.static import Static
from sparsepop.methods.superpose import Superpose
from sparsepop.methods.toward import Toward

__all__ = [
    "MCP",
    "AtDensity",
    "Cut",
    "DropGrow",
    "Explored",
    "GradientFlow",
    "GrowPrune",
    "Halo",
    "Lasso",
    "Magnitude",
    "Method",
    "MinFanIn",
    "NearZero",
    "Partition",
    "PartitionGrow",
    "PhaseDyReLU",
    "Reachable",
    "ShareWeights",
    "SharedLasso",
    "Static",
    "Superpose",
    "Thresholds",
    "Toward",
    "acdc",
    "dense",
    "east",
    "gap",
    "gmp",
    "granet",
    "halo_rates",
    "one_shot",
    "parallel_gap",
    "rigl",
    "rigl_itop",
    "sparse_evolution",
    "static",
    "steps_to_spend",
    "sup_tickets",
    "weight_steps",
]
