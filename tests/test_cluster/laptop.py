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
RUN = "cd ~/sparsepop && python -m sparsepop.run tune_configs/small.py --address auto"
PREPARE = "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; ray get-auth-token --generate >/dev/null"


@dataclass
class Laptop:
    """`file` is the launcher file in use, inside the checkout at ~/sparsepop."""

    host: Host
    file: str

    def sh(self, command: str, timeout: float = 300) -> str:
        """What a command prints in the checkout."""
        here = "cd ~/sparsepop && export PATH=$PWD/.venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0"
        start = time.monotonic()
        output = self.host.run(f"{here}; {command}", timeout)
        print(f"{time.monotonic() - start:6.1f} s  {command}\n{output}")  # pytest -s shows the whole session
        return output

    def up(self, environment: str = "") -> None:
        self.sh(f"{environment} ray up --yes {self.file}")

    def down(self) -> None:
        self.sh(f"ray down --yes {self.file}")

    def on_head(self, command: str, timeout: float = 300) -> str:
        """What a command prints on the head."""
        return self.sh(f'ray exec {self.file} "{command}"', timeout)

    def submit(self, storage: str, flags: str = "", job_flags: str = "") -> str:
        """Train the small population as a job called `small`."""
        job = f"ray job submit --address http://127.0.0.1:8265 --submission-id small {job_flags}"
        run = rf"bash -c \"{RUN} --storage '{storage}' {flags}\""
        return self.on_head(f"{job} -- {run}", 600)

    @property
    def public_key(self) -> str:
        return (self.host.home / ".ssh" / "id_ed25519.pub").read_text()


def laptop(network: Network, file: str, change: Callable[[dict[str, Any]], None]) -> Laptop:
    """A new machine with a copy of what `file` mounts and of `file` itself, changed."""
    made = Laptop(network.host("laptop", f"{network.prefix}.9"), file)
    checkout = made.host.home / "sparsepop"
    config = yaml.safe_load((ROOT / file).read_text())
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
