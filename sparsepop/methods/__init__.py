"""Methods that make a network sparse: the pieces, and the published baselines put together from them."""

from sparsepop.methods.base import Method
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.dyrelu import PhaseDyReLU
from sparsepop.methods.explored import Explored
from sparsepop.methods.fan_in import MinFanIn
from sparsepop.methods.gradient_flow import GradientFlow
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.published import dense, east, gmp, granet, rigl, rigl_itop, sparse_evolution, static
from sparsepop.methods.reach import Reachable
from sparsepop.methods.sharing import ShareWeights
from sparsepop.methods.static import Static

__all__ = [
    "DropGrow",
    "Explored",
    "GradientFlow",
    "Magnitude",
    "Method",
    "MinFanIn",
    "PhaseDyReLU",
    "Reachable",
    "ShareWeights",
    "Static",
    "dense",
    "east",
    "gmp",
    "granet",
    "rigl",
    "rigl_itop",
    "sparse_evolution",
    "static",
]
