"""How many members run at once, and what each of them may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsepop.experiment import Resources

CROWD = 4  # members of an exchanging population that share one CPU, or one GPU, before they take turns


class ResourceError(ValueError):
    """A member that this cluster can never hold."""


@dataclass(frozen=True)
class Places:
    """`at_once` members run side by side, each with `cpus` and `gpus` (fractions allowed) and `threads` torch threads."""

    at_once: int
    cpus: float
    gpus: float
    threads: int

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def plan_places(members: int, wanted: Resources, cluster: Mapping[str, float], *, crowd: int = 1) -> Places:
    """Share the cluster's CPUs and GPUs equally among `members`, as far as `wanted` leaves it open.

    Where there are more members than devices, up to `crowd` of them share one; the others wait. Raises ResourceError when
    one member alone asks for more than the cluster has.
    """
    have = {"CPU": float(cluster.get("CPU", 0)), "GPU": float(cluster.get("GPU", 0))}
    for name, asked in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
        if asked is not None and asked > have[name]:
            raise ResourceError(
                f"a member wants {asked:g} {name}s and the cluster has {have[name]:g}: "
                f"ask for less (Resources({name.lower()}s=...)) or start a larger cluster"
            )
    gpus = _share(members, have["GPU"], crowd) if wanted.gpus is None else wanted.gpus
    cpus = _share(members, have["CPU"], crowd) if wanted.cpus is None else wanted.cpus
    fits = [int(have[name] / each + 1e-9) for name, each in (("CPU", cpus), ("GPU", gpus)) if each > 0]
    return Places(min([members, *fits]), cpus, gpus, max(1, int(cpus)))


def _share(members: int, have: float, crowd: int) -> float:
    if members <= have:
        return float(int(have / members))
    # rounded down, for Ray counts ten-thousandths
    return max(1.0 / crowd, int(have / members * 1000) / 1000) if have else 0.0
