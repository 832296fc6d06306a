"""A member: one network in training, and all that a checkpoint of it holds."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsepop.ledger import Costs, measure_costs
from sparsepop.masks import Masks, prunable_names
from sparsepop.methods.base import Method
from sparsepop.models import Model, Task, blank, build, is_own, model_name
from sparsepop.optim import scale_learning_rate
from sparsepop.ranks import Ranks
from sparsepop.recipe import Recipe
from sparsepop.schedule import as_schedule
from sparsepop.seeds import mix

State = dict[str, Any]
ALONE = Ranks()
_FORWARD = zlib.crc32(b"forward")
_COSTS: dict[tuple[Model, Task, tuple[str, ...]], Costs] = {}


@dataclass(frozen=True)
class Note:
    """Something that a method did or saw after `step` steps and that a reader of the results should know:
    a collapse, a reset, a merge, the end of a phase.
    """

    step: int
    kind: str
    message: str
    numbers: Mapping[str, float]


class Member:
    """Model, optimizer, masks, memory of the methods, step and FLOPs so far. Made by `build` or `restore`,
    never directly.

    Randomness is drawn from (seed, step) and is therefore no state: a member resumed is bit for bit the
    member that went on, and one that takes another's state over keeps its own randomness.

    With more than one of `ranks`, each of these processes holds the same member and sees its part of every
    batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        task: Task,
        model: nn.Module,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.recipe = recipe
        self.ranks = ranks
        self.seed = seed
        self.task = task
        self.device = device
        bare = dict(model.named_parameters(remove_duplicate=False))
        if missing := [name for name in recipe.keep_dense if name not in bare]:
            raise ValueError(f"keep_dense names no weight of {model_name(recipe.model)}: {missing[0]!r}")
        dense = {id(bare[name]) for name in recipe.keep_dense}
        names = [name for name in prunable_names(model) if id(bare[name]) not in dense]
        # tied weights have several names
        total = sum({id(bare[name]): bare[name].numel() for name in names}.values())
        for method in recipe.methods:
            method.surgery(model, names)
        self.model = self._place(model)
        params = dict(self.model.named_parameters())
        self.masks = Masks({name: params[name] for name in names if name in params}, total)
        self.optimizer = recipe.optimizer.build(self.model.parameters())
        self.memory: dict[str, dict[str, Any]] = {}
        self.step = 0
        self.train_flops = 0.0
        self.seconds = 0.0  # device-seconds of training so far
        self.losses = torch.zeros((), dtype=torch.float64, device=device)  # summed since the step `reported`
        self.reported = 0
        self.costs = self._costs()
        self._network: nn.Module | None = None
        self._agreed = -1
        self._notes: list[Note] = []
        self._timed: float | None = None
        self._priced: tuple[int, float] = (-1, 0.0)
        self._dense_gradients: tuple[int, frozenset[str]] = (-1, frozenset())

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        seed: int,
        task: Task,
        device: str | torch.device = "cpu",
        ranks: Ranks = ALONE,
    ) -> Member:
        """A new member at step 0, its weights drawn from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix(seed, 0))
            model = build(recipe.model, task.shape, task.classes)
            member = cls(recipe, seed, task, model, torch.device(device), ranks)
        for method in recipe.methods:
            method.start(member)
        return member

    @classmethod
    def restore(
        cls,
        recipe: Recipe,
        seed: int,
        task: Task,
        state: State,
        device: str | torch.device = "cpu",
        ranks: Ranks = ALONE,
    ) -> Member:
        """A member of `recipe` that goes on from `state`, its own or another's; the recipe's hyperparameters
        stand.
        """
        bare = blank(recipe.model, task.shape, task.classes, device)
        member = cls(recipe, seed, task, bare, torch.device(device), ranks)
        member.load(state)
        return member

    def state(self) -> State:
        """All that training has produced, by reference: copy or ship it before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": {"type": type(self.optimizer).__name__, "buffers": self._buffers()},
            "masks": self.masks.state_dict(),
            "memory": self.memory,
            "step": self.step,
            "train_flops": self.train_flops,
            "losses": self.losses,
            "reported": self.reported,
            "notes": [asdict(note) for note in self._notes],
        }

    def load(self, state: State) -> None:
        """Copy `state` in. The optimizer takes over its buffers alone, never learning rates; none at all from
        another type of it.
        """
        for method in self.recipe.methods:
            method.adapt(self, state)
        self.model.load_state_dict(state["model"])
        self.masks.load_state_dict(state["masks"])
        self.optimizer.state.clear()
        if state["optimizer"]["type"] == type(self.optimizer).__name__:
            self._load_buffers(state["optimizer"]["buffers"])
        self.memory = _on_device(state["memory"], self.device)
        self.step = state["step"]
        self.train_flops = state["train_flops"]
        self.reported = state["reported"]
        self.losses.copy_(state["losses"])
        self._notes = [Note(**each) for each in state.get("notes", ())]
        self._priced = (-1, 0.0)

    @property
    def network(self) -> nn.Module:
        """What the forward passes of training go through: the model, or its data-parallel wrapper."""
        if self._network is None:
            self._network = self.ranks.wrap(self.model, self.recipe.norms)
        return self._network

    def agree(self) -> None:
        """RanksDiffer when masks have changed since the last call and are not the same on all ranks."""
        if self.ranks.world > 1 and self.masks.version != self._agreed:
            self.ranks.check_equal(self.masks.digest(), "the masks")
            self._agreed = self.masks.version

    def memory_of(self, method: Method) -> dict[str, Any]:
        """What `method`, one of the recipe's, remembers in this member; ValueError for another one."""
        place = next((i for i, each in enumerate(self.recipe.methods) if each is method), None)
        if place is None:
            raise ValueError(f"{method!r} is no method of this member's recipe, and remembers nothing here")
        return self.memory.setdefault(f"{place}-{type(method).__name__}", {})

    def rewire(self) -> None:
        """Give optimizer and data-parallel wrapper the parameters that the model has now: those that are gone
        are forgotten, those that stay keep their buffers, new ones start without. What the model costs is
        measured again.
        """
        self._network = None
        kept = self.optimizer.state
        self.optimizer = self.recipe.optimizer.build(self.model.parameters())
        self.optimizer.state.update({p: kept[p] for p in self.model.parameters() if p in kept})
        self.set_learning_rate()
        self.costs, self._priced = self._costs(), (-1, 0.0)

    def note(self, kind: str, message: str = "", **numbers: float) -> None:
        """Have the next report tell this as an event."""
        self._notes.append(Note(self.step, kind, message, numbers))

    def take_notes(self) -> tuple[Note, ...]:
        """The notes since the last call."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def start_clock(self) -> None:
        """What follows counts as training."""
        self._timed = time.perf_counter()

    def book_seconds(self) -> None:
        """Add the device-seconds since the last call, or since `start_clock`, to `seconds`."""
        now = time.perf_counter()
        if self._timed is not None:
            self.seconds += (now - self._timed) * self.ranks.world
            self._timed = now

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU generator that depends on the seed, the step and `purpose` alone: equal on all ranks."""
        return torch.Generator().manual_seed(mix(self.seed, self.step, zlib.crc32(purpose.encode())))

    def autocast(self) -> AbstractContextManager[object]:
        """The context that a forward pass runs in."""
        if self.recipe.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def seed_forward(self) -> None:
        """Layers that draw numbers themselves (dropout) draw them from (seed, step, rank): torch's own
        generators are seeded. Our networks have none."""
        if not is_own(self.recipe.model):
            return
        seed = mix(self.seed, self.step, _FORWARD, self.ranks.rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def prepare(self, images: Tensor) -> Tensor:
        """`images` (N, C, H, W) in the memory format and type that the model works in."""
        images = images.double() if self.recipe.precision == "float64" else images
        return images.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else images

    def set_learning_rate(self) -> float:
        """Give the optimizer the learning rate of this step; returns it."""
        lr = as_schedule(self.recipe.optimizer.lr)(self.step)
        scale_learning_rate(self.optimizer, lr, self.step)
        return lr

    def count_step(self) -> None:
        """The optimizer has stepped: advance the clock and book 3 forward passes of the sparse network for
        each sample of the global batch; of the dense one while masks are only observed.
        """
        # a soft method needs dense weight gradients, and no observed mask may make costs depend on reports
        flops = self.forward_flops if self.masks.enforced else self.costs.dense_flops
        self.train_flops += 3.0 * flops * self.recipe.batch
        self.step += 1

    def count_dense_gradients(self, names: Iterable[str] | None = None) -> None:
        """Book this step's weight gradients of the layers `names` (all of them: None) as dense ones: (dense -
        sparse) forward FLOPs more for each sample; no layer's twice.
        """
        step, booked = self._dense_gradients
        before = booked if step == self.step else frozenset()
        now = before.union(self.masks.params if names is None else names)
        added = self._flops_with_dense(now) - self._flops_with_dense(before)
        self.train_flops += added * self.recipe.batch
        self._dense_gradients = (self.step, now)

    @property
    def forward_flops(self) -> float:
        """FLOPs of one sample's forward pass through the network as it is masked now."""
        if self._priced[0] != self.masks.version:
            self._priced = (self.masks.version, self._flops_with_dense(frozenset()))
        return self._priced[1]

    def _flops_with_dense(self, dense: frozenset[str]) -> float:
        """FLOPs of one sample's forward pass if the layers `dense` were not masked."""
        sizes = {name: param.numel() for name, param in self.masks.params.items() if name not in dense}
        counts = self.masks.counts
        return self.costs.forward_flops({name: counts[name] / size for name, size in sizes.items()})

    def _buffers(self) -> dict[str, dict[str, Any]]:
        # by name: torch numbers them by parameter group, and another recipe may group them otherwise
        return {name: dict(self.optimizer.state.get(p, {})) for name, p in self.model.named_parameters()}

    def _load_buffers(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        for name, param in self.model.named_parameters():
            if buffers := saved.get(name):
                self.optimizer.state[param] = {key: _copy_like(param, each) for key, each in buffers.items()}

    def _costs(self) -> Costs:
        """Measured once in a process for each bare architecture: no exploit needs to run the network."""
        key = (self.recipe.model, self.task, tuple(self.masks.params))
        if any(type(method).surgery is not Method.surgery for method in self.recipe.methods):
            return measure_costs(self.model, self.task.shape, self.masks.params)
        if key not in _COSTS:
            _COSTS[key] = measure_costs(self.model, self.task.shape, self.masks.params)
        return _COSTS[key]

    def _place(self, model: nn.Module) -> nn.Module:
        dtype = torch.float64 if self.recipe.precision == "float64" else None
        model = model.to(self.device, dtype)
        return model.to(memory_format=torch.channels_last) if self.recipe.channels_last else model


def _copy_like(param: nn.Parameter, value: Any) -> Any:
    """A copy of an optimizer's buffer, in the type and memory layout of `param`: fused optimizers rely on
    both.
    """
    if isinstance(value, Tensor) and value.shape == param.shape:
        return torch.empty_like(param, requires_grad=False).copy_(value)
    return _on_device(value, param.device)


def _on_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, Mapping):
        return {key: _on_device(each, device) for key, each in value.items()}
    return value
