"""Which member a parameter or buffer is taken from when a round is merged."""

from __future__ import annotations

from torch import nn

from sparsepop.kinds import LAYERS
from sparsepop.methods.partition import Groups
from sparsepop.nn import Act


def owners_of(model: nn.Module, groups: Groups) -> dict[str, int]:
    """The number of the partition that owns each parameter and buffer of `model`, by its name in the state.

    A prunable weight belongs to its group; the bias beside it, and whatever has no weights of that kind
    (norms, their buffers, activations) up to the next layer, go with it; so does the gain of a layer that
    borrows the weight, and what follows there. What comes before the first prunable layer, or goes with a
    layer that is kept dense, has no owner and is absent.
    """
    group_of = {
        id(model.get_parameter(name)): number for number, group in enumerate(groups) for name in group
    }
    inside = {id(part) for act in model.modules() if isinstance(act, Act) for part in act.modules()}
    owners: dict[int, int] = {}
    current: int | None = None
    for part in model.modules():
        if isinstance(part, LAYERS) and id(part) not in inside:
            current = group_of.get(id(part.weight))
        if current is not None:
            for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
                owners.setdefault(id(tensor), current)
    # a module that stands under several names is several times in the state, and has one owner all the same
    tensors = model.state_dict(keep_vars=True)
    return {name: owners[id(tensor)] for name, tensor in tensors.items() if id(tensor) in owners}
