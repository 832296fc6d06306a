"""python -m benchmarks.step: what masks cost a training step, in time and memory, beside the dense step."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from benchmarks.measure import Clock, Times, averaged, ratios, show, take_turns, verdict
from benchmarks.memory import peak_bytes
from sparsepop.ledger import state_bytes
from sparsepop.member import Member, Task
from sparsepop.methods import Halo, PhaseDyReLU, Thresholds, rigl, static
from sparsepop.methods.base import Method
from sparsepop.models import build
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.schedule import Linear
from sparsepop.train import train_step

DENSITY, INTERVAL, STEPS = 0.1, 100, 100_000
OPTIMIZER = SGD(lr=0.01, momentum=0.9, weight_decay=5e-4)
BYTES_TARGET = 1.3

Batch = tuple[Tensor, Tensor]
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A model and batches of `size` images for it; `targets`: the most that ratios to dense may be; `slots`:
    whether it has activations that DyReLUs can replace.
    """

    model: str
    task: Task
    targets: tuple[tuple[str, float], ...] = ()
    size: int = 128
    slots: bool = True


CASES = (
    Case(
        "resnet-20",
        Task((3, 32, 32), 10),
        (("static", 1.02), ("RigL, averaged", 1.05), ("DST", 1.15), ("HALO", 1.10)),
    ),
    Case("lenet-300-100", Task((1, 28, 28), 10), (("DST", 2.5), ("HALO", 2.0))),
    Case("lstm-a", Task((1, 28, 28), 10), (("DST", 1.15),), slots=False),
)
LARGE = Case("resnet-18", Task((3, 32, 32), 10), size=8)  # weights far outweigh activations


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    flags = _parser().parse_args(arguments)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    device = torch.device(flags.device)
    console = Console(width=120)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    console.print(
        f"{where}; torch {torch.__version__}; density {DENSITY:g}, an update every {INTERVAL} steps"
    )
    if flags.cpu_time:
        console.print("times are CPU seconds of this process, not wall time")
    clock = time.process_time if flags.cpu_time else time.perf_counter
    for case in CASES:
        _report_times(
            console, case, measure_steps(case, device, flags.seconds or (4 if flags.quick else 60), clock)
        )
    cases = CASES if flags.quick else (*CASES, LARGE)
    _report_bytes(console, cases, device)
    _report_peaks(console, cases, device)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, and no resnet-18")
    parser.add_argument(
        "--seconds", type=float, help="seconds of measuring for each model (default 60, --quick 4)"
    )
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="CPU time for wall time: steadier on a busy machine, with --threads 1",
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    return parser


def make_member(case: Case, methods: tuple[Method, ...], device: torch.device) -> Member:
    """A member of `case` in training mode."""
    recipe = Recipe(case.model, STEPS, methods, OPTIMIZER, batch=case.size)
    member = Member.build(recipe, 0, case.task, device)
    member.model.train()
    return member


def make_batch(case: Case, device: torch.device) -> Batch:
    """Noise of the right shapes: what a step costs does not depend on what it sees."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.size, *case.task.shape, generator=generator)
    labels = torch.randint(case.task.classes, (case.size,), generator=generator)
    return images.to(device), labels.to(device)


def member_step(member: Member, batch: Batch, at: int) -> Run:
    """One turn of the loop in `sparsepop.train`, always as if `at` steps were done."""
    losses = torch.zeros((), device=member.device)

    def run() -> None:
        nonlocal losses
        member.step = at
        member.set_learning_rate()
        losses += train_step(member, *batch)

    return run


def plain_step(case: Case, batch: Batch, device: torch.device) -> Run:
    """The same dense step, written by hand."""
    model = build(case.model, case.task.shape, case.task.classes).to(device).train()
    images, labels = batch
    rate, momentum, decay = 0.01, OPTIMIZER.momentum, OPTIMIZER.weight_decay
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=momentum, weight_decay=decay, fused=True
    )

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return run


def measure_steps(case: Case, device: torch.device, seconds: float, clock: Clock) -> Times:
    """Seconds a step of every kind, all kinds taking turns for about `seconds` in all."""
    batch = make_batch(case, device)
    sparse = make_member(case, rigl(DENSITY, STEPS, interval=INTERVAL), device)
    runs = {
        "written by hand": plain_step(case, batch, device),
        "dense": member_step(make_member(case, (), device), batch, 1),
        "dense again": member_step(make_member(case, (), device), batch, 1),
        "static": member_step(make_member(case, static(DENSITY), device), batch, 1),
        "RigL, nothing due": member_step(sparse, batch, 1),
        "DST": member_step(make_member(case, (Thresholds(5e-6),), device), batch, 1),
        "HALO": member_step(make_member(case, (Halo(1e-8, 1e-8),), device), batch, 1),
    }
    if case.slots:
        runs["EAST, DyReLU phase"] = member_step(make_member(case, _east(), device), batch, 1)
    update = {"RigL, update": member_step(sparse, batch, INTERVAL)}
    sync = torch.cuda.synchronize if device.type == "cuda" else _nothing
    trial = take_turns({**runs, **update}, 1, warmup=1, sync=sync, clock=clock)
    # a turn lasts long enough for the clock, and for the device's queue to fill
    steps = max(1, round(0.02 / median(trial["dense"])))
    turns = {name: repeated(run, steps) for name, run in runs.items()} | update
    rounds = max(3, round(seconds / sum(median(t) * (1 if n in update else steps) for n, t in trial.items())))
    times = take_turns(turns, rounds, sync=sync, clock=clock)
    return {name: [t / (1 if name in update else steps) for t in each] for name, each in times.items()}


def _east() -> tuple[Method, ...]:
    # sharing, the other part of EAST that a step runs through, needs blocks, which not every case has
    phase = PhaseDyReLU(Linear(1.0, 0.0, STEPS // 2, STEPS // 4))
    return (phase, *rigl(DENSITY, STEPS, interval=INTERVAL))


def repeated(run: Run, times: int) -> Run:
    """`run` several times over, as one run."""

    def run_all() -> None:
        for _ in range(times):
            run()

    return run_all


def _nothing() -> None:
    return None


def _report_times(console: Console, case: Case, times: Times) -> None:
    times["RigL, averaged"] = averaged(times["RigL, nothing due"], times["RigL, update"], INTERVAL)
    targets = dict(case.targets)
    rows = []
    for name, each in times.items():
        ratio = ratios(each, times["dense"])
        by_hand = ratios(each, times["written by hand"]).median
        judged = verdict(ratio.median, targets.get(name))
        rows.append([name, f"{median(each) * 1e3:.3f}", *ratio.cells(), f"{by_hand:.3f}", judged])
    title = f"{case.model}: one step, batch {case.size}, {len(times['dense'])} rounds of turns"
    columns = ("step", "ms", "x dense", "least", "most", "x by hand", "target")
    show(console, title, columns, rows)


def held_bytes(member: Member) -> dict[str, int]:
    """Bytes that stay from step to step, by what they are."""
    buffers = [t for state in member.optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    return {
        "parameters": state_bytes(member.model.parameters()),
        "masks": state_bytes(member.masks.tensors.values()),
        "buffers": state_bytes(member.model.buffers()),
        "optimizer": state_bytes(buffers),
    }


def _report_bytes(console: Console, cases: Sequence[Case], device: torch.device) -> None:
    rows = []
    for case in cases:
        member = make_member(case, rigl(DENSITY, STEPS, interval=INTERVAL), device)
        member_step(member, make_batch(case, device), 1)()
        held = held_bytes(member)
        shares = {name: size / held["parameters"] for name, size in held.items()}
        masked = shares["parameters"] + shares["masks"]
        cells = [
            f"{held['parameters'] / 2**20:.2f}",
            *(f"{shares[n]:.3f}" for n in ("masks", "buffers", "optimizer")),
        ]
        rows.append([case.model, *cells, f"{masked:.3f}", verdict(masked, BYTES_TARGET)])
    columns = (
        "model",
        "parameters, MiB",
        "masks x",
        "buffers x",
        "optimizer x",
        "parameters + masks x",
        "target",
    )
    show(console, "What a RigL member holds, in multiples of its parameters' bytes", columns, rows)


def update_alone(member: Member) -> Run:
    """What a due update does between backward and optimizer step, by itself."""

    def run() -> None:
        member.step = INTERVAL
        for method in member.recipe.methods:
            method.after_backward(member)

    return run


def _report_peaks(console: Console, cases: Sequence[Case], device: torch.device) -> None:
    rows = []
    for case in cases:
        batch = make_batch(case, device)
        dense, sparse = (
            make_member(case, ms, device) for ms in ((), rigl(DENSITY, STEPS, interval=INTERVAL))
        )
        unit = state_bytes(dense.model.parameters())
        runs = [
            member_step(dense, batch, 1),
            member_step(sparse, batch, 1),
            member_step(sparse, batch, INTERVAL),
        ]
        peaks = [peak_bytes(run, device) / unit for run in (*runs, update_alone(sparse))]
        rows.append([f"{case.model}, batch {case.size}", *(f"{peak:.2f}" for peak in peaks)])
    columns = ("model", "dense step", "RigL, nothing due", "RigL, update step", "the update alone")
    title = "Most memory held at once, beyond what is held before, in multiples of the parameters' bytes"
    show(console, title, columns, rows)


if __name__ == "__main__":
    sys.exit(main())
