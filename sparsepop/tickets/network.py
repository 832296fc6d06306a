"""From a finished member to a ticket, and from a ticket to a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparsepop.masks import Masks
from sparsepop.member import Member
from sparsepop.methods import Superpose
from sparsepop.methods.cheap import CheapTicket
from sparsepop.methods.sharing import sharing_of
from sparsepop.models import blank, is_own, model_name
from sparsepop.tickets.ticket import Provenance, Ticket


def take(member: Member, provenance: Provenance | None = None) -> Ticket:
    """The ticket of a finished member, copied to the CPU. Raises ValueError for one that is still training,
    or whose network is not plain: other modules than its architecture's, or dead weights that are not zero.
    """
    if member.step < member.recipe.steps:
        raise ValueError(
            f"no ticket from a member at step {member.step} of {member.recipe.steps}: finish it first"
        )
    return take_plain(member, provenance)


def take_plain(member: Member, provenance: Provenance | None = None) -> Ticket:
    """The ticket of a member whose network is plain, whatever its step, copied to the CPU. Raises ValueError
    where it is not.
    """
    _check_plain(member)
    owners, gains = sharing_of(member)
    state = {name: value for name, value in member.model.state_dict().items() if name not in owners}
    masks = {name: mask for name, mask in member.masks.tensors.items() if name not in owners}
    return _ticket(member, {**state, **gains}, masks, provenance or Provenance())


def take_cheap(member: Member, provenance: Provenance | None = None) -> list[Ticket]:
    """The tickets that a `Superpose` among a finished member's methods remembers, oldest first: the networks
    that its own was made of. None where other methods had changed the architecture when they were taken, but
    for `ShareWeights`. Each knows what it scored on validation, and what it costs, but for device-seconds.
    """
    owners, gains = sharing_of(member)
    bare = blank(member.recipe.model, member.task.shape, member.task.classes)
    names = (bare.state_dict().keys() - owners.keys()) | gains.keys()
    methods = [method for method in member.recipe.methods if isinstance(method, Superpose)]
    found = [each for method in methods for each in method.tickets(member)]
    source = provenance or Provenance()
    return [
        _ticket(
            member,
            each.state,
            each.masks,
            replace(
                source,
                kind="cheap",
                step=each.step,
                ledger=_ledger(each, member, source, owners),
                metrics=each.metrics,
            ),
        )
        for each in found
        if each.state.keys() == names
    ]


def _ledger(
    cheap: CheapTicket, member: Member, source: Provenance, owners: Mapping[str, str]
) -> dict[str, float]:
    """What a cheap ticket costs: what is `source`'s, the finished member's, and depends on neither masks nor
    time is the same for both. `owners`: of the weights that layers borrow.
    """
    densities = {name: float(mask.double().mean()) for name, mask in cheap.masks.items()}
    densities |= {name: densities[owner] for name, owner in owners.items() if owner in densities}
    same = {name: value for name, value in source.ledger.items() if name not in ("train_flops", "seconds")}
    return {**same, **cheap.costs, "inference_flops": member.costs.forward_flops(densities)}


def load(ticket: Ticket, device: str | torch.device = "cpu") -> tuple[nn.Module, Masks]:
    """The network in evaluation mode, and its masks. ValueError where this version's architecture of that
    name has other parameters.
    """
    state = ticket.state()
    # another's network may tie parameters, which assigning would untie; ours need not be held twice
    ours = not is_own(ticket.model)
    model = blank(ticket.model, ticket.shape, ticket.classes, "meta" if ours else device)
    try:
        model.to(dtype=_dtype(state)).load_state_dict(state, assign=ours)
    except RuntimeError as error:
        raise ValueError(
            f"ticket {ticket.id} does not fit {ticket.model}: {' '.join(str(error).split())}"
        ) from error
    params = dict(model.to(device).named_parameters())
    tensors = ticket.plain_masks()
    repeats = {name: owner for name, owner in ticket.shared.items() if name in tensors}
    masks = Masks({name: params[name] for name in tensors}, repeats=repeats)
    masks.load_state_dict({"enforced": True, "version": 0, "tensors": tensors})
    return model.eval(), masks


Tensors = Mapping[str, Tensor]


def _ticket(member: Member, state: Tensors, masks: Tensors, provenance: Provenance) -> Ticket:
    """The ticket of what a finished member is or was, its shared weights held once."""
    name, task, (shared, _) = model_name(member.recipe.model), member.task, sharing_of(member)
    return Ticket(name, task.shape, task.classes, *_parts(state, masks), provenance, shared)


def _parts(state: Tensors, masks: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    """Masks, alive values and everything else of a network, as copies on the CPU."""
    kept = {key: mask.cpu().contiguous().clone() for key, mask in masks.items()}
    values = {key: state[key].detach().cpu()[mask] for key, mask in kept.items()}
    others = {key: value.detach().cpu().clone() for key, value in state.items() if key not in kept}
    return kept, values, others


def _dtype(state: dict[str, Tensor]) -> torch.dtype:
    return next(value.dtype for value in state.values() if value.is_floating_point())


def _check_plain(member: Member) -> None:
    bare = blank(member.recipe.model, member.task.shape, member.task.classes)
    found, wanted = ([(n, type(part)) for n, part in each.named_modules()] for each in (member.model, bare))
    if found != wanted or member.model.state_dict().keys() != bare.state_dict().keys():
        raise ValueError(
            f"no ticket from this network: it is no plain {model_name(member.recipe.model)}; finish it first"
        )
    masks = member.masks
    if any(bool(param.detach()[~masks.tensors[name]].any()) for name, param in masks.params.items()):
        raise ValueError("no ticket from this network: weights outside its masks are not zero")
