"""How many members run at once, and what each of them may use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparsepop.experiment import Resources

CROWD = 4  # members of an exchanging population that share one CPU, or one GPU, before they take turns
IDLE = 0.1  # share of the CPUs' time that taking turns may leave unused


class ResourceError(ValueError):
    """A member that this cluster can never hold."""


@dataclass(frozen=True)
class Places:
    """`at_once` members run side by side, each of their processes with `cpus` and `gpus` (fractions allowed)
    and `threads` torch threads."""

    at_once: int
    cpus: float
    gpus: float
    threads: int

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def plan_places(
    members: int, wanted: Resources, nodes: Sequence[Mapping[str, float]], *, crowd: int = 1
) -> Places:
    """Share the CPUs and GPUs of `nodes` equally among `members`, as far as `wanted` leaves it open.

    Where there are more members than devices, up to `crowd` of them share one; the others wait. CPUs are
    shared by as few as keep them busy: each process more takes memory, and seconds to start. A process
    fits on one node, and its share is at most one GPU; the processes of a data-parallel member may lie on
    several nodes, and never share a GPU. Raises ResourceError when the cluster cannot hold even one member.
    """
    cpus, gpus = ([node.get(name, 0.0) for node in nodes] for name in ("CPU", "GPU"))
    each_cpu, each_gpu = _shares(members, wanted, cpus, gpus, crowd)
    _check(each_cpu, each_gpu, cpus, gpus)
    processes = members * wanted.workers
    fits = [_fits(cpu, each_cpu, processes, gpu, each_gpu) for cpu, gpu in zip(cpus, gpus, strict=True)]
    at_once = min(members, sum(fits) // wanted.workers)
    if not sum(fits):
        raise ResourceError(
            f"no node has both {each_cpu:g} CPUs and {each_gpu:g} GPUs for a member: ask for less "
            "(Resources(cpus=..., gpus=...))"
        )
    if not at_once:
        raise ResourceError(
            f"no room for {wanted.workers} x ({each_cpu:g} CPUs and {each_gpu:g} GPUs), which a member "
            "needs: ask for less (Resources(cpus=..., gpus=..., workers=...)), or start a larger cluster"
        )
    return Places(at_once, each_cpu, each_gpu, max(1, int(each_cpu)))


def _shares(
    members: int, wanted: Resources, cpus: Sequence[float], gpus: Sequence[float], crowd: int
) -> tuple[float, float]:
    """CPUs and GPUs of each process: as wanted, or an equal share."""
    processes = members * wanted.workers
    if wanted.workers > 1 and any(gpus):
        crowd = 1  # NCCL refuses two ranks on one GPU
    gpu = _share(processes, gpus, crowd, 1.0) if wanted.gpus is None else wanted.gpus / wanted.workers
    # a process that gets a GPU finds its CPUs on a node that has one
    near = [have for have, beside in zip(cpus, gpus, strict=True) if beside or not gpu]
    if not gpu and wanted.workers == 1:  # the workers of a group are slow to change hands
        processes = _side_by_side(members, sum(near), crowd)
    cpu = _share(processes, near, crowd, max(near, default=0.0))
    return (cpu if wanted.cpus is None else wanted.cpus / wanted.workers), gpu


def _side_by_side(members: int, cpus: float, crowd: int) -> int:
    """The fewest members at once that, taking turns generation by generation, leave at most IDLE of the CPUs'
    time unused; where none do, those that leave least."""
    sizes = range(max(1, min(members, int(cpus))), max(1, min(members, int(crowd * cpus))) + 1)
    return min(sizes, key=lambda size: max(math.ceil(members / size) * size / members - 1.0, IDLE))


def _check(cpu: float, gpu: float, cpus: Sequence[float], gpus: Sequence[float]) -> None:
    for name, asked, have in (("CPU", cpu, cpus), ("GPU", gpu, gpus)):
        if asked > max(have, default=0.0):
            raise ResourceError(
                f"a member wants {asked:g} {name}s and the largest node has {max(have, default=0.0):g}: ask "
                f"for less (Resources({name.lower()}s=...)) or start a larger cluster"
            )
    if not cpu and not gpu:
        raise ResourceError("a member with 0 CPUs and 0 GPUs has no place: ask for some, or leave it open")
    if gpu > 1 and gpu != int(gpu):
        raise ResourceError(f"gpus={gpu:g} is no whole number: beyond 1, Ray gives out whole GPUs only")


def _fits(cpu: float, each_cpu: float, members: int, gpu: float, each_gpu: float) -> int:
    """Members that one node holds."""
    pairs = [(have, each) for have, each in ((cpu, each_cpu), (gpu, each_gpu)) if each]
    return min([members, *(int(have / each + 1e-9) for have, each in pairs)])


def _share(members: int, have: Sequence[float], crowd: int, most: float) -> float:
    """An equal share of what there is: whole devices up to `most`, or a fraction of one, 1/crowd at least."""
    total = sum(have)
    if not total:
        return 0.0
    if members <= total:
        return min(float(int(total / members)), most)
    # rounded down, for Ray counts ten-thousandths
    return max(1.0 / crowd, int(total / members * 1000) / 1000)
