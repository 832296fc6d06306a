"""How many weights each layer may keep: uniform, Erdos-Renyi and its kernel variant, exact to the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

Shapes = Mapping[str, tuple[int, ...]]
DISTRIBUTIONS = ("uniform", "er", "erk")


def check_density(density: float, what: str = "density") -> float:
    """`density` itself when it lies in (0, 1]; else a ValueError that names it."""
    if isinstance(density, bool) or not isinstance(density, Real) or not 0.0 < density <= 1.0:
        raise ValueError(
            f"{what} must lie in (0, 1], got {density!r}: it is the share of weights kept, 0.1 for 90% sparse"
        )
    return density


def check_distribution(distribution: str) -> str:
    """`distribution` itself when it is known; else a ValueError that lists the known ones."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"unknown distribution {distribution!r}: choose one of {', '.join(DISTRIBUTIONS)}")
    return distribution


def check_scope(scope: str) -> str:
    """`scope` itself when it is `global` (all layers ranked together) or a distribution; else ValueError."""
    if scope != "global" and scope not in DISTRIBUTIONS:
        raise ValueError(f"unknown scope {scope!r}: choose one of global, {', '.join(DISTRIBUTIONS)}")
    return scope


def kept(density: float, of: int, layers: int) -> int:
    """How many of `of` weights `density` keeps: round(density x of). ValueError when that is fewer than
    `layers`, each of which needs one.
    """
    count = round(check_density(density) * of)
    if count < layers:
        raise ValueError(
            f"density {density} keeps {count} of {of} weights, fewer than the {layers} layers: "
            f"use at least {layers / of:.3g}"
        )
    return count


def layer_densities(shapes: Shapes, density: float, distribution: str = "erk") -> dict[str, float]:
    """The real-valued density of each layer, whose mean over weights is `density` exactly.

    `er`: proportional to (n_in + n_out) / (n_in n_out) (SET, Mocanu et al. 2018); `erk`: the same over all
    dimensions of the kernel (RigL, Evci et al. 2020, section 3). Layers that the common factor would push
    above 1 are dense, and their surplus goes to the others, all layers tied for the maximum at once.
    """
    check_density(density)
    if check_distribution(distribution) == "uniform":
        return dict.fromkeys(shapes, density)
    raw = {name: _raw(shape, distribution) for name, shape in shapes.items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    dense: set[str] = set()
    while len(dense) < len(raw):
        free = [name for name in raw if name not in dense]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        factor = budget / sum(raw[name] * sizes[name] for name in free)
        highest = max(raw[name] for name in free)
        if factor * highest <= 1.0:
            break
        dense.update(name for name in free if raw[name] == highest)
    return {name: 1.0 if name in dense else factor * raw[name] for name in raw}


def allocate(
    shapes: Shapes, density: float, distribution: str = "erk", of: int | None = None
) -> dict[str, int]:
    """Whole numbers of weights to keep, by layer: they sum to round(density x all weights), at least 1 in
    each layer.

    `of` is the number of weights that `density` is a share of where it is more than these, as when layers
    share tensors. The largest-remainder method: floors first, what is left over goes to the largest fractions
    (ties: to the earlier layer). Raises ValueError when there are fewer weights to keep than layers, or more
    than weights.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    there = sum(sizes.values())
    of = there if of is None else of
    total = kept(density, of, len(sizes))
    if total > there:
        raise ValueError(
            f"density {density} keeps {total} of {of} weights, but only {there} are not shared: "
            f"use at most {there / of:.3g}"
        )
    share = density if of == there else total / there
    ideal = {name: d * sizes[name] for name, d in layer_densities(shapes, share, distribution).items()}
    return _round_to_total(ideal, sizes, total)


def limited(budgets: Mapping[str, int], most: Mapping[str, int]) -> dict[str, int]:
    """`budgets` with none above `most` of its layer: what one cannot use goes to those that have more than
    theirs, in proportion to how much more, so that the sum is kept as far as there is anything.
    """
    counts = {name: min(budget, most[name]) for name, budget in budgets.items()}
    spare = {name: most[name] - count for name, count in counts.items()}
    more = min(sum(budgets.values()) - sum(counts.values()), there := sum(spare.values()))
    if more == 0:
        return counts
    ideal = {name: count + more * spare[name] / there for name, count in counts.items()}
    return _round_to_total(ideal, most, sum(counts.values()) + more)


def _round_to_total(ideal: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    counts = {name: min(sizes[name], max(1, math.floor(share))) for name, share in ideal.items()}
    by_fraction = sorted(ideal, key=lambda name: counts[name] - ideal[name])
    while (missing := total - sum(counts.values())) != 0:
        if missing > 0:
            able = [name for name in by_fraction if counts[name] < sizes[name]][:missing]
            counts.update({name: counts[name] + 1 for name in able})
        else:
            # the floor of one weight a layer took too many: the layers furthest above their share give back
            able = sorted((n for n in counts if counts[n] > 1), key=lambda n: ideal[n] - counts[n])[:-missing]
            counts.update({name: counts[name] - 1 for name in able})
    return counts


def _raw(shape: tuple[int, ...], distribution: str) -> float:
    dims = shape if distribution == "erk" else shape[:2]
    return sum(dims) / math.prod(dims)
