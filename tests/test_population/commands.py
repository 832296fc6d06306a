"""`python -m sparsepop.run` as a process of its own, and the processes that it and Ray start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sparsepop.storage import Storage

PATIENCE = 240.0
CONFIG = """
import time
from dataclasses import dataclass, replace
from sparsepop.experiment import PBT, Resources
from sparsepop.methods import Method
from tests.test_population.worlds import experiment as small, recipe as plain, SPACE

@dataclass(frozen=True)
class Slow(Method):
    def after_step(self, member):
        time.sleep(PAUSE)

def recipe(hp):
    return replace(plain(hp), methods=(*plain(hp).methods, Slow()))

def experiment():
    search = PBT(SPACE, members=MEMBERS, quantile=0.5)
    return small(search, recipe=recipe, resources=Resources(cpus=1))
"""


class Command:
    """The command on a small population whose steps take `pause` seconds."""

    def __init__(
        self, folder: Path, flags: Sequence[str] = (), *, members: int = 2, pause: float = 0.1
    ) -> None:
        self.folder, self.flags = folder, flags
        self.config = CONFIG.replace("MEMBERS", str(members)).replace("PAUSE", str(pause))
        self.storage = Storage(str(folder / "out" / "small"))

    def start(self) -> subprocess.Popen[str]:
        (self.folder / "config.py").write_text(self.config)
        command = [sys.executable, "-m", "sparsepop.run", str(self.folder / "config.py"), "--storage", "out"]
        return subprocess.Popen(
            [*command, *self.flags],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reach(self, process: subprocess.Popen[str], generation: int) -> None:
        """Wait until some member has posted `generation`."""
        tag = f"g{generation:04d}"
        self.wait(process, lambda: any(name.startswith(tag) for name in self.storage.names("posts")))

    def wait(self, process: subprocess.Popen[str], seen: Callable[[], bool]) -> None:
        """Wait until `seen` while the command runs."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def finish(self, process: subprocess.Popen[str]) -> None:
        """Wait for the end, and see that all went well."""
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, ""), output


def descendants(pid: int) -> Iterator[int]:
    """The processes that `pid` has started, and those that they have."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from descendants(child)


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def kill(pids: Sequence[int]) -> None:
    """kill -9, whoever is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
