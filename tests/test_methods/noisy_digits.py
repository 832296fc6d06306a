"""An experiment on grow-and-prune: an MLP of five layers on digits of which a fifth may be mislabelled.

`python -m tests.test_methods.noisy_digits` prints its table (minutes).
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from sparsepop.data import Resident
from sparsepop.data.known import digits
from sparsepop.data.sources import Decoded, Source
from sparsepop.member import Member, Task
from sparsepop.merge import Round, simulate
from sparsepop.methods import GrowPrune, Method, Partition, PartitionGrow, dense, one_shot, rigl, static
from sparsepop.nn import Act
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Cosine, Phases, Restarts, Schedule, Warmup
from sparsepop.train import train

TASK = Task((1, 8, 8), 10)
EPOCH = 1437 // 64
LENGTH, FINE_TUNE = 4 * EPOCH, 12 * EPOCH
STEPS = 12 * LENGTH + FINE_TUNE  # three rounds of four partitions


class NoisyDigits(Resident):
    """All 1,437 training digits, 20% of their labels drawn anew; validation scores are of the clean test
    digits, for diagnosis only.
    """

    def __init__(self) -> None:
        source = digits()
        generator = torch.Generator().manual_seed(0)
        labels = torch.from_numpy(source.train.labels.copy())
        wrong = torch.rand(len(labels), generator=generator) < 0.2
        labels[wrong] = torch.randint(10, (int(wrong.sum()),), generator=generator)
        noisy = Decoded(source.train.pixels, labels.numpy())
        super().__init__(Source("noisy digits", noisy, source.test, 10), torch.device("cpu"), 0)
        # pixels from 0 to 1: units that see but empty ones at the border then see nothing
        self._scale, self._shift = torch.full((1,), 1 / 240), torch.zeros(1)

    def batches(
        self, split: str, size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return super().batches("test" if split == "validation" else split, size, rank=rank, world=world)


def mlp(*_: Any) -> nn.Module:
    """64-128-128-128-128-10 with BatchNorm; 58,624 weights."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i in range(4):
        parts[f"fc{i}"] = nn.Linear(128 if i else 64, 128, bias=False)
        parts[f"bn{i}"] = nn.BatchNorm1d(128)
        parts[f"act{i}"] = Act()
    parts["fc4"] = nn.Linear(128, 10)
    return nn.Sequential(parts)


def recipe_of(methods: tuple[Method, ...], rate: Schedule, steps: int = STEPS) -> Recipe:
    return Recipe(mlp, steps, methods, SGD(rate), batch=64, clip=1.0)


def rising_and_falling(steps: int) -> Schedule:
    """Without a warm-up, weights that are grown into a dead unit before a BatchNorm explode: its variance is
    zero, so its gradients are hundreds of times too large.
    """
    return Warmup(Cosine(0.1, 0.0, steps), EPOCH)


def methods_of(name: str, density: float) -> tuple[Method, ...]:
    turns = Phases.regular(LENGTH, 12)
    return {
        "dense": dense,
        "static": lambda: static(density, "uniform"),
        "rigl": lambda: rigl(density, STEPS, interval=EPOCH, distribution="uniform"),
        "one-shot": lambda: one_shot(density, STEPS, fine_tune=FINE_TUNE / STEPS),
        "C-GaP": lambda: (GrowPrune(density, Partition(4), turns),),
        "C-GaP, random order": lambda: (GrowPrune(density, Partition(4), turns, order="random"),),
        "C-GaP, global": lambda: (GrowPrune(density, Partition(4), turns, scope="global"),),
        "C-GaP, partial growth": lambda: (GrowPrune(density, Partition(4), turns, grown=4 * density),),
    }[name]()


def score(name: str, density: float, seed: int, data: NoisyDigits) -> float:
    """Test accuracy in percent at the end."""
    rate = rising_and_falling(STEPS)
    if "GaP" in name:
        rate = Restarts(rising_and_falling(LENGTH), LENGTH, 12, rising_and_falling(FINE_TUNE))
    if name == "one-shot":
        before = STEPS - FINE_TUNE
        rate = Restarts(rising_and_falling(before), before, 1, rising_and_falling(FINE_TUNE))
    member = Member.build(recipe_of(methods_of(name, density), rate), seed, TASK)
    return finish(member, data, density if name != "dense" else 1.0)


def finish(member: Member, data: NoisyDigits, density: float) -> float:
    *_, report = train(member, data, every=member.recipe.steps)
    assert report.test is not None
    assert report.alive == round(density * report.prunable)
    return 100 * report.test.accuracy


def parallel(
    density: float, seed: int, data: NoisyDigits, warm: int, rounds: int = 8
) -> tuple[float, list[Round]]:
    """Test accuracy of P-GaP with four members after `warm` epochs of common sparse training, and its
    rounds; members draw different batches.
    """
    begin = warm * EPOCH
    steps = begin + rounds * LENGTH + FINE_TUNE
    rate: Schedule = Restarts(rising_and_falling(LENGTH), LENGTH, rounds, rising_and_falling(FINE_TUNE))
    if begin:
        rate = Restarts(rising_and_falling(begin), begin, 1, rate)
    grow = [
        PartitionGrow(density, Partition(4), own, Phases.regular(LENGTH, rounds, begin)) for own in range(4)
    ]
    recipes = [recipe_of((method,), rate, steps) for method in grow]
    member, seen = simulate(recipes, [seed + 100 * own for own in range(4)], TASK, data, batches=EPOCH)
    return finish(member, data, density), seen


def main(densities: tuple[float, ...] = (0.05, 0.01), seeds: int = 3) -> None:
    torch.set_num_threads(1)
    data = NoisyDigits()
    more = ("C-GaP, random order", "C-GaP, global", "C-GaP, partial growth")
    names = ("one-shot", "C-GaP", "static", "rigl", *more)
    for density in densities:
        for name in names:
            show(f"{name} {density}", [score(name, density, seed, data) for seed in range(seeds)])
        for warm in (0, 16):
            found = [parallel(density, seed, data, warm) for seed in range(seeds)]
            show(f"P-GaP {density}, {warm} epochs before", [accuracy for accuracy, _ in found])
            for what in (0, -1):
                rounds = [seen[what] for _, seen in found]
                show("   members", [100 * each.members_accuracy for each in rounds])
                show("   combined", [100 * each.dense.accuracy for each in rounds])
                show("   merged", [100 * each.merged.accuracy for each in rounds])
    show("dense", [score("dense", 1.0, seed, data) for seed in range(seeds)])


def show(name: str, accuracies: list[float]) -> None:
    print(f"{name:36} {mean(accuracies):6.2f} ± {stdev(accuracies):.2f}", flush=True)


if __name__ == "__main__":
    main(tuple(float(each) for each in sys.argv[1:]) or (0.05, 0.01))
