"""A setting and tickets that were really trained on it, a few steps each."""

from __future__ import annotations

from functools import cache

from sparsepop.ensemble import Setting
from sparsepop.member import Member
from sparsepop.methods import Method, rigl, static
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.tickets import Provenance, Ticket, take
from sparsepop.train import train
from tests.cases import BATCH, TASK, Toy

SETTING = Setting(Toy(), batch=BATCH)
STEPS = 30


@cache
def trained(
    seed: int = 0,
    density: float = 0.2,
    model: str = "wrn-10-1",
    mask_seed: int | None = None,
    first: tuple[Method, ...] = (),
    keep_dense: tuple[str, ...] = (),
) -> Ticket:
    """A ticket of RigL behind the `first` methods; with `mask_seed`, of a static mask that depends on that
    seed alone.
    """
    methods = rigl(density, STEPS, interval=5) if mask_seed is None else static(density)
    recipe = Recipe(model, STEPS, (*first, *methods), SGD(0.05), batch=BATCH, keep_dense=keep_dense)
    member = Member.build(recipe, seed if mask_seed is None else mask_seed, TASK)
    member.seed = seed  # batches
    list(train(member, Toy(), every=STEPS))
    return take(member, Provenance(experiment="toy", data="toy", member=seed, recipe={"batch": BATCH}))
