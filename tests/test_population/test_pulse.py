"""A hung process ends itself, and a machine that goes is noticed once."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from sparsepop.population.pulse import HUNG, Pulse
from tests.cases import Toy

HANGS = """
import time
from sparsepop.population.pulse import Pulse
from tests.cases import Toy

pulse = Pulse(Toy(), 0.5, notice=lambda: False, save=print, report=lambda text: print(text, flush=True))
for step in range(4):
    pulse.batch(0, step, 16)
    time.sleep(0.2)

def stuck():
    time.sleep(60)

stuck()
"""


def pulse(**changes: Any) -> Pulse:
    settings: dict[str, Any] = {"notice": lambda: False, "save": lambda: True, "report": lambda text: None}
    return Pulse(Toy(), 600.0, **{**settings, **changes})


def test_a_process_that_hangs_says_where_and_ends() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50)
    assert time.monotonic() - began < 50
    assert done.returncode == HUNG
    assert "nothing read for 0.5 s" in done.stdout
    assert "in stuck" in done.stdout


def test_rest_and_stop_keep_a_process_alive() -> None:
    code = HANGS.replace("    time.sleep(60)", "    time.sleep(1.5)") + "pulse.stop()"
    for word in ("pulse.rest()", "pulse.stop()"):
        changed = code.replace("\nstuck()", f"\n{word}\nstuck()")
        done = subprocess.run([sys.executable, "-c", changed], capture_output=True, text=True, timeout=50)
        assert (done.returncode, done.stdout) == (0, "")


def test_a_notice_is_asked_for_seldom_and_acted_on_until_all_is_saved() -> None:
    asked, saved = [], []

    def notice() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 1

    def save() -> bool:
        saved.append(len(asked))
        return len(saved) > 1

    watched = pulse(notice=notice, save=save)
    until = time.monotonic() + 4.5
    step = 0
    while time.monotonic() < until:
        watched.batch(0, step, 16)
        step += 1
    watched.stop()
    assert len(asked) == 3
    assert asked[1] - asked[0] > 0.9  # the pulse reads its clock before it asks
    assert saved == [2, 3]
    assert step > 10


def test_a_pulse_is_the_data_set() -> None:
    watched, toy = pulse(), Toy()
    (images, labels), (same, labelled) = (each.batch(3, 2, 16, rank=1, world=2) for each in (watched, toy))
    assert images.equal(same)
    assert labels.equal(labelled)
    assert watched.steps_per_epoch(16) == toy.steps_per_epoch(16)
    ours = list(watched.batches("test", 7, rank=1, world=2))
    assert [len(labels) for _, labels in ours] == [len(labels) for _, labels in toy.batches("test", 7)][1::2]
    watched.stop()
