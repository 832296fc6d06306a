"""Where clusters are launched from: a machine with a checkout, a key, a token, and `ray` in its PATH."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.test_cluster.hosts import Host, Network

ROOT = Path(__file__).parents[2]
SMALL = "tests/test_cluster/small.py"
PREPARE = "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; ray get-auth-token --generate >/dev/null"


@dataclass
class Laptop:
    """`file` is the launcher file in use, inside the checkout at ~/sparsepop."""

    host: Host
    file: str

    def ray(self, command: str, timeout: float = 300, check: bool = True) -> str:
        """What `ray COMMAND` prints in the checkout, FILE in it standing for the launcher file."""
        return self.sh(f"ray {command.replace('FILE', self.file)}", timeout, check)

    def sh(self, command: str, timeout: float = 300, check: bool = True) -> str:
        here = "cd ~/sparsepop && export PATH=$PWD/.venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0"
        start = time.monotonic()
        output = self.host.run(f"{here}; {command}", timeout, check)
        print(f"{time.monotonic() - start:6.1f} s  {command}\n{output}")  # pytest -s shows the whole session
        return output

    def on_head(self, command: str, timeout: float = 300) -> str:
        """What a command prints on the head."""
        return self.ray(f'exec FILE "{command}"', timeout)

    def submit(self, storage: str, name: str, wait: bool = True) -> str:
        """Train the small population as a job called `name`."""
        run = f"cd ~/sparsepop && python -m sparsepop.run tune_configs/small.py --address auto --storage '{storage}'"
        flags = "--address http://127.0.0.1:8265" + ("" if wait else " --no-wait")
        return self.on_head(f'ray job submit {flags} --submission-id {name} -- bash -c \\"{run}\\"', 600)

    @property
    def public_key(self) -> str:
        return (self.host.home / ".ssh" / "id_ed25519.pub").read_text()


def launcher(file: str) -> dict[str, Any]:
    """A launcher file of the project."""
    return yaml.safe_load((ROOT / file).read_text())


def laptop(network: Network, file: str, change: Callable[[dict[str, Any]], None]) -> Laptop:
    """A new machine with a copy of what `file` mounts and of `file` itself, changed."""
    made = Laptop(network.host("laptop", f"{network.prefix}.9"), file)
    checkout = made.host.home / "sparsepop"
    config = launcher(file)
    for source in config["file_mounts"].values():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, checkout / source, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / source).is_file():
            shutil.copy2(ROOT / source, checkout / source)
    shutil.copy2(ROOT / SMALL, checkout / "tune_configs" / "small.py")
    change(config)
    (checkout / file).write_text(yaml.safe_dump(config))
    made.sh(PREPARE)
    return made
