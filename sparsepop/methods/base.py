"""The interface of everything that makes a network sparse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from sparsepop.member import Member


class Batches(Protocol):
    """What training asks of a data set; see `sparsepop.data.Data`."""

    def steps_per_epoch(self, size: int) -> int: ...
    def batch(
        self, seed: int, step: int, size: int, *, augment: bool = True, rank: int = 0, world: int = 1
    ) -> tuple[Tensor, Tensor]: ...
    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]: ...


class Method:
    """A frozen dataclass of hyperparameters with hooks. It holds no state: what training makes lives in the
    member alone.

    One step, and where the hooks lie in it:

        build        surgery          at every build, before masks and optimizer exist
        restore      adapt            before a state is loaded into what was built
        step 0       start            once, never after a restore
        each step    (forward; loss + penalty; backward)
                     after_backward   gradients are still dense; member.step is the steps completed before
                     (gradients masked, then clipped; the optimizer steps; member.step counts it)
                     after_step       weights, masks and member.step agree
        report       outdates, measure, measure_layers, examine
        end          finish           in reverse order; leaves a plain network with its masks
        harvest      break_off        the same for a copy in mid-training, where `plain_at` allows it
        soft phase   harden           where it ends: at a `Cut`, or in `finish`; see methods/harden.py

    A recipe holds a tuple of methods; the loop calls each hook in the tuple's order. A method keeps what it
    must remember in `member.memory_of(self)`, which travels with the member's state: nested dicts with names
    for keys, of tensors and of plain values (numbers, texts, lists of them; no tensors in lists, for these
    would stay on another member's device). One that adds or removes parameters while training calls
    `member.rewire()`; `member.note()` records what the report should tell as an event.
    """

    soft: ClassVar[bool] = False
    """True while masks are only observed: `start` sets `member.masks.enforced = False`, and no hook does
    anything once it is True.
    """

    def surgery(self, model: nn.Module, names: Sequence[str]) -> None:
        """Change the bare `model`, whose prunable weights are called `names`."""

    def adapt(self, member: Member, state: Mapping[str, Any]) -> None:
        """Give the freshly built model the modules that it had when `state` was taken."""

    def start(self, member: Member) -> None:
        """Set the first masks."""

    def penalty(self, member: Member) -> Tensor | None:
        """A scalar added to the loss, or None."""
        return None

    def after_backward(self, member: Member) -> None:
        """Use the dense gradients."""

    def after_step(self, member: Member) -> None:
        """Use the weights of the finished step."""

    def measure(self, member: Member) -> Mapping[str, float]:
        """Refresh observed masks, return numbers for the report."""
        return {}

    def measure_layers(self, member: Member) -> Mapping[str, Mapping[str, float]]:
        """Numbers for single layers, by the name of the prunable weight; follows `measure`."""
        return {}

    def examine(self, member: Member, data: Batches | None) -> Mapping[str, float]:
        """Numbers for the report that take images of `data`, never of its test split (None where only the
        numbers' names are asked for). Leaves the member as it was.
        """
        return {}

    def density_of(self, number: str) -> float | None:
        """The density at which this method measures `number`, one of its own, whatever is alive; None for all
        that speak of the network as it is.
        """
        return None

    def finish(self, member: Member, data: Batches) -> None:
        """Leave a plain network with its masks; training `data` is there to re-estimate statistics."""

    def outdates(self, member: Member) -> bool:
        """Whether this method has just made another network of the member, whose BatchNorm statistics are
        still the old one's, for the most part: reports then score it with fresh ones.
        """
        return False

    def break_off(self, member: Member, data: Batches) -> None:
        """What `finish` does, to a copy of a member in mid-training: a plain network with its masks, at
        once.
        """
        self.finish(member, data)

    def plain_at(self, step: int) -> bool:
        """Whether `break_off` can leave a plain network once `step` steps are done."""
        return True

    def harden(self, member: Member) -> None:
        """Soft methods: write the exact masks into `member.masks`, leave plain modules, whose weights still
        have their values where pruned, and drop own parameters. Called once, by `methods.harden.harden`,
        which does the rest (zeros, optimizer).
        """

    def density_at(self, step: int) -> float | None:
        """The density that this method promises once `step` steps are done; None when it promises none."""
        return None

    def needs_masks_at(self) -> int | None:
        """The first step at which this method sets masks, or counts on those there are to hold; None for
        methods that work beside masks which are only observed (`soft`).
        """
        return None

    def needs_modules_at(self) -> int | None:
        """The first step whose network this method puts together with later ones, so that no module may come
        or go from then on; None for methods that don't.
        """
        return None

    def settled_at(self) -> int:
        """The step from which neither the promised density nor the network's modules change."""
        return 0
