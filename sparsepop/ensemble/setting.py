"""The data that networks are judged on, and that BatchNorm's statistics are re-estimated from."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from sparsepop.averaging import recalibrate
from sparsepop.methods.base import Batches
from sparsepop.outputs import accuracy, outputs
from sparsepop.tickets import Ticket, load


@dataclass(frozen=True)
class Setting:
    """Where and on what networks of tickets run: `data`, and the `device` that it is on.

    `batch`, `augment` and `seed` choose the epoch of training batches for BatchNorm's statistics; `size` is
    the evaluation batch. Networks run in their own precision (float32 as a rule), without autocast; what a
    ticket has once answered on a split is kept.
    """

    data: Batches
    device: str = "cpu"
    batch: int = 128
    augment: bool = True
    seed: int = 0
    size: int = 500
    answers: dict[tuple[str, str], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def outputs(self, network: Ticket | nn.Module, split: str) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and labels (N) on a split."""
        if not isinstance(network, Ticket):
            return self._answer(network, split)
        key = (network.id, split)
        if key not in self.answers:
            self.answers[key] = self._answer(load(network, self.device)[0], split)
        return self.answers[key]

    def _answer(self, model: nn.Module, split: str) -> tuple[Tensor, Tensor]:
        dtype = next(model.parameters()).dtype
        batches = ((x.to(dtype), y) for x, y in self.data.batches(split, self.size))
        return outputs(model, batches)

    def accuracy(self, network: Ticket | nn.Module, split: str = "validation") -> float:
        """Accuracy on a split."""
        return accuracy(*self.outputs(network, split))

    def recalibrate(self, model: nn.Module) -> None:
        """Re-estimate BatchNorm's statistics on one epoch of training batches."""
        dtype = next(model.parameters()).dtype
        steps = range(self.data.steps_per_epoch(self.batch))
        batches = (self.data.batch(self.seed, step, self.batch, augment=self.augment)[0] for step in steps)
        recalibrate(model, (images.to(dtype) for images in batches))
