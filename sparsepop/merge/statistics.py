"""BatchNorm statistics of a network that was put together from parts."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sparsepop.member import Member
from sparsepop.methods.base import Batches


@torch.no_grad()
def recalibrate(member: Member, data: Batches, batches: int) -> None:
    """Take the running mean and variance of every BatchNorm anew: their averages over the first `batches`
    training batches of seed 0, whatever the member's own, so that all members come to the same. Books the
    forward passes.
    """
    norms = [part for part in member.model.modules() if isinstance(part, _BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms or batches < 1:
        return
    kept = [norm.momentum for norm in norms]
    training = member.model.training
    member.model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    _pass_through(member, data, batches)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    member.model.train(training)
    member.train_flops += member.forward_flops * member.recipe.batch * batches


def _pass_through(member: Member, data: Batches, batches: int) -> None:
    recipe = member.recipe
    for step in range(batches):
        images, _ = data.batch(0, step, recipe.batch, augment=recipe.augment)
        with member.autocast():
            member.model(member.prepare(images))
