"""The benchmarks: what they compute from times, and that their command lines work."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.measure import Spread, averaged, ratios, take_turns, verdict
from benchmarks.memory import highest


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_turns_are_timed_by_run_and_warmup_is_not() -> None:
    clock, order = FakeClock(), []

    def run(name: str, seconds: float) -> None:
        order.append(name)
        clock.spend(seconds)

    runs = {"a": lambda: run("a", 2.0), "b": lambda: run("b", 3.0)}
    times = take_turns(runs, 3, warmup=2, clock=clock)
    assert times == {"a": [2.0] * 3, "b": [3.0] * 3}
    assert order == list("abba" + "abbaab")


def test_waiting_for_the_device_counts_for_the_run_that_made_it_wait() -> None:
    clock = FakeClock()
    queued: list[float] = []

    def sync() -> None:
        clock.spend(sum(queued))
        queued.clear()

    times = take_turns({"slow": lambda: queued.append(5.0), "fast": lambda: None}, 2, sync=sync, clock=clock)
    assert times == {"slow": [5.0, 5.0], "fast": [0.0, 0.0]}


def test_ratios_are_taken_round_by_round() -> None:
    # a machine that slows down tenfold; the ratio of the medians would be 2.2
    assert ratios([2.0, 22.0, 180.0], [1.0, 10.0, 100.0]) == Spread(2.0, 1.8, 2.2)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ratios([1.0], [1.0, 2.0])


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        Spread.of([])


def test_an_update_counts_once_in_an_interval() -> None:
    assert averaged([1.0, 2.0], [101.0, 2.0], 100) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("value", "target", "said"), [(1.05, 1.05, "met (1.05)"), (1.06, 1.05, "MISSED (1.05)"), (9.0, None, "")]
)
def test_verdicts(value: float, target: float | None, said: str) -> None:
    assert verdict(value, target) == said


def test_the_peak_ignores_what_others_allocated() -> None:
    moves = [(1, 100), (9, -1000), (2, 50), (1, -100), (3, 80), (2, -50), (3, -80)]
    assert highest({"Addr": address, "Bytes": size} for address, size in moves) == 150


def test_what_an_update_holds_is_measured() -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.memory import peak_bytes

    def run() -> None:
        first = torch.zeros(1000)
        second = first + 1
        del first
        second.sum()

    assert 8000 <= peak_bytes(run, torch.device("cpu")) <= 8200


def test_a_run_under_tune_is_read_off_its_log() -> None:
    from benchmarks.populations import Run, over, tune_run

    def line(event: str, trial: str, time: float, before: str = "") -> dict[str, object]:
        return {"event": event, "trial": trial, "time": time, "before": before}

    log = [
        line("start", "a", 10.0),
        line("start", "b", 11.0),
        line("generation", "a", 14.0),
        line("generation", "b", 15.0),
        line("start", "b", 15.5, before="a"),
        line("start", "a", 15.5, before="a"),
        line("generation", "a", 19.0),
        line("generation", "b", 20.0),
    ]
    run = tune_run(log, 4.0, 21.0)
    assert run == Run(startup=6.0, training=10.0, end=1.0, generations=4, exploits=1)
    assert over(run, 4.0) == pytest.approx(10.0 / (2 * 4.0))


@pytest.mark.parametrize("name", ["step", "exchange", "tune_pbt", "read", "scale", "tickets", "partitions"])
def test_help_says_what_a_script_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    assert f"benchmarks.{name}" in capsys.readouterr().out


def test_the_steps_that_are_compared_do_what_they_say() -> None:
    import torch

    from benchmarks.step import CASES, INTERVAL, held_bytes, make_batch, make_member, member_step
    from sparsepop.methods import rigl

    case, device = CASES[1], torch.device("cpu")
    member, batch = make_member(case, rigl(0.1, 1000, interval=INTERVAL), device), make_batch(case, device)
    version = member.masks.version
    member_step(member, batch, 1)()
    assert member.masks.version == version
    member_step(member, batch, INTERVAL)()
    assert member.masks.version == version + 1
    held = held_bytes(member)
    assert held["parameters"] == held["optimizer"] == 4 * 266_610
    assert held["masks"] == 266_200


def test_reading_is_measured_before_and_after_compaction(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.read import main

    assert main(["--quick"]) == 0
    rows = {
        line.split("│")[1].strip(): line.split("│")
        for line in capsys.readouterr().out.splitlines()
        if "│" in line
    }
    assert [cell.strip() for cell in rows["as members left it"][2:4]] == ["60", "400"]
    assert [cell.strip() for cell in rows["compacted"][2:4]] == ["2", "400"]
