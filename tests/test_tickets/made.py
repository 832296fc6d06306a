"""Small tickets and stores for the tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache

import torch

from sparsepop.masks import Masks, random_mask
from sparsepop.models import build
from sparsepop.storage import Storage
from sparsepop.tickets import Provenance, Ticket, TicketStore

SHAPE = (3, 8, 8)


def made(
    density: float = 0.1,
    seed: int = 0,
    model: str = "wrn-10-1",
    provenance: Provenance | None = None,
) -> Ticket:
    """A random network with random masks, the same share of every layer, and made-up statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(model, SHAPE, 10)
    params = {n: p for n, p in network.named_parameters() if p.ndim > 1}
    masks = Masks(params)
    masks.set(
        {n: random_mask(p.shape, max(1, round(density * p.numel())), generator) for n, p in params.items()}
    )
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    weights = {name: state.pop(name)[mask] for name, mask in masks.tensors.items()}
    return Ticket(model, SHAPE, 10, masks.tensors, weights, state, provenance or Provenance())


@cache
def shared_store() -> tuple[str, str, str]:
    """The folder of a store that lives as long as this process, with a sparse and a denser ticket."""
    folder = tempfile.mkdtemp(prefix="tickets")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = TicketStore(Storage(folder))
    first, second = (store.write(made(density)) for density in (0.1, 0.3))
    return folder, first, second
