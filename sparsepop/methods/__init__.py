"""Methods that make a network sparse: the pieces, and the published baselines put together from them."""

from sparsepop.methods.base import Method
from sparsepop.methods.drop_grow import DropGrow
from sparsepop.methods.explored import Explored
from sparsepop.methods.magnitude import Magnitude
from sparsepop.methods.published import (
    dense,
    gmp,
    granet,
    rigl,
    rigl_itop,
    sparse_evolution,
    static,
    sup_tickets,
)
from sparsepop.methods.static import Static
from sparsepop.methods.superpose import Superpose

__all__ = [
    "DropGrow",
    "Explored",
    "Magnitude",
    "Method",
    "Static",
    "Superpose",
    "dense",
    "gmp",
    "granet",
    "rigl",
    "rigl_itop",
    "sparse_evolution",
    "static",
    "sup_tickets",
]
