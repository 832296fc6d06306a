"""The frozen description that builds a member."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from sparsepop.methods.base import Method
from sparsepop.methods.cut import Cut
from sparsepop.methods.equal import promised_density
from sparsepop.models import Model
from sparsepop.models.names import unified
from sparsepop.optim import SGD, AdamW
from sparsepop.ranks import NORM_MODES
from sparsepop.schedule import check_whole

PRECISIONS = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how one network is trained, but for its seed and its data.

    `model` is a name of ours or another's network (`sparsepop.models.build` says what it may be).
    `steps` and `report` count optimizer steps; `batch` is the global batch; `keep_dense` names prunable
    weights that stay dense and out of every count of prunable weights; `clip` bounds the gradient's norm,
    taken over alive weights only. `bfloat16` means autocast over float32 weights; `float64` is for tests.
    `norms` matters to data-parallel members alone: BatchNorm over the global batch (`synchronised`: as many
    workers as you like give the same training) or over each worker's part (`local`: faster).
    Raises ValueError where a value cannot work, also when a method would not settle within `steps`.
    """

    model: Model
    steps: int
    methods: tuple[Method, ...] = ()
    optimizer: SGD | AdamW = field(default_factory=SGD)
    batch: int = 128
    label_smoothing: float = 0.0
    clip: float | None = None
    precision: str = "float32"
    channels_last: bool = False
    augment: bool = True
    keep_dense: tuple[str, ...] = ()
    norms: str = "synchronised"

    def __post_init__(self) -> None:
        _check_model(self.model)
        object.__setattr__(self, "model", unified(self.model))
        if not isinstance(self.optimizer, SGD | AdamW):
            raise ValueError(
                f"optimizer is {self.optimizer!r}: give one of sparsepop.optim, SGD(0.1) or AdamW(0.001)"
            )
        check_whole(self, "steps", "batch")
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"steps and batch must be at least 1, got steps={self.steps} and batch={self.batch}"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.norms not in NORM_MODES:
            raise ValueError(f"unknown norms {self.norms!r}: choose one of {', '.join(NORM_MODES)}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip must be positive or None, got {self.clip}")
        if not isinstance(self.methods, tuple):
            kind = type(self.methods).__name__
            raise ValueError(f"methods is a {kind}: give a tuple, (one,) where there is but one")
        for method in self.methods:
            self._check_method(method)
        self._check_soft()
        self._check_averages()

    def density_at(self, step: int) -> float:
        """The density promised after `step` steps: that of the last method that promises one, else 1."""
        promise = promised_density(self.methods, step)
        return 1.0 if promise is None else promise

    @property
    def density(self) -> float:
        """The density at the end, at which members are compared."""
        return self.density_at(self.steps)

    def density_of(self, score: str) -> float | None:
        """The density at which the number `score` is measured, whatever a member's own; None for one that
        speaks of the network as it is.
        """
        found = (method.density_of(score) for method in self.methods)
        return next((density for density in found if density is not None), None)

    def learns_density(self, step: int) -> bool:
        """Whether the density after `step` steps is what training makes of it: that of a soft method with no
        other behind it that promises one.
        """
        promised = any(method.density_at(step) is not None for method in self.methods)
        return not promised and any(method.soft for method in self.methods)

    @property
    def masks_hold_from(self) -> int:
        """The step from which masks decide which weights there are: that of the `Cut` where a soft method
        only observes them before (the last step where none cuts), else 0.
        """
        if not any(method.soft for method in self.methods):
            return 0
        return min((method.at for method in self.methods if isinstance(method, Cut)), default=self.steps)

    def without_masks(self, step: int) -> str:
        """In words, why masks do not hold at `step`, before `masks_hold_from`, and what to do about it."""
        soft = next(type(method).__name__ for method in self.methods if method.soft)
        return (
            f"step {step}, and {soft} only observes them before step {self.masks_hold_from}: "
            f"drop one, or Cut by step {step}"
        )

    def _check_method(self, method: Method) -> None:
        if not isinstance(method, Method):
            raise ValueError(f"methods must hold Method objects, got {method!r}")
        if method.settled_at() > self.steps:
            raise ValueError(
                f"{type(method).__name__} settles at step {method.settled_at()}, "
                f"after the last step {self.steps}: shorten its schedule or train longer"
            )

    def _check_soft(self) -> None:
        """While a soft method trains all weights, no other may believe that masks hold."""
        for method in self.methods:
            needed = method.needs_masks_at()
            if needed is not None and needed < self.masks_hold_from:
                name = type(method).__name__
                raise ValueError(f"{name} needs masks that hold at {self.without_masks(needed)}")

    def _check_averages(self) -> None:
        """Networks of different modules have no average, and one that is not yet sparse would spoil it."""
        for method in self.methods:
            first = method.needs_modules_at()
            if first is None:
                continue
            others = [other for other in self.methods if other is not method]
            name = f"{type(method).__name__} averages networks from step {first} on"
            if late := [other for other in others if not other.plain_at(first)]:
                raise ValueError(
                    f"{name}, and {type(late[0]).__name__} still changes their modules after it: have it "
                    "settle by then"
                )
            if late := [other for other in others if other.settled_at() > first]:
                raise ValueError(
                    f"{name}, and {type(late[0]).__name__} reaches its density only at step "
                    f"{late[0].settled_at()}: have it settle by then, or begin the cycles at that step"
                )


def _check_model(model: Model) -> None:
    if isinstance(model, nn.Module) or not (isinstance(model, str) or callable(model)):
        raise ValueError(
            f"model is a {type(model).__name__}: give a name, or a function that makes a network each time"
        )
    try:
        hash(model)
    except TypeError:
        raise ValueError(f"model {model!r} cannot be hashed: make it a function, or frozen") from None
