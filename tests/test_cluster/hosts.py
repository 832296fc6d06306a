"""Machines made of namespaces: own network, processes, mounts, name and SSH server; packages of this one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HOME, SHARED = "/mnt/home", "/mnt/shared"  # of every machine; SHARED is one folder, as NFS would be
TOOLS = ("ip", "unshare", "nsenter", "/usr/sbin/sshd", "ssh-keygen", "rsync", "make")

# An overlay stands for an image that has the packages installed: `make install` finds nothing to do, and
# could write what it likes without touching the environment that the tests run in.
INIT = """
set -e
mkdir -p $ROOT/up $ROOT/work $ROOT/tmp $ROOT/home/.ssh $ROOT/home/sparsepop/.venv
mount -t overlay overlay -o lowerdir=$VENV,upperdir=$ROOT/up,workdir=$ROOT/work $ROOT/home/sparsepop/.venv
touch -d tomorrow $ROOT/home/sparsepop/.venv/.ready
case $VENV in /tmp/*) mkdir -p $ROOT$VENV; mount --bind $VENV $ROOT$VENV;; esac
echo "ubuntu:*:0:0::$HOME:/bin/bash" | cat - /etc/passwd > $ROOT/passwd
mount --bind $ROOT/passwd /etc/passwd
mount -t tmpfs tmpfs /mnt
mkdir $HOME $SHARED_AT
mount --rbind $ROOT/home $HOME
mount --bind $SHARED $SHARED_AT
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=1g tmpfs /dev/shm
mkdir /run/sshd
mount --rbind $ROOT/tmp /tmp
hostname $NAME
while ! ip address show dev eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip address add $ADDRESS/24 dev eth0
ip link set eth0 up
ip route add default via $GATEWAY
cd /
exec env -i PATH=$PATH /usr/sbin/sshd -D -e -f /dev/null -h $HOME/.ssh/host_key -o PidFile=none \\
    -o UsePAM=no -o PermitRootLogin=yes -o StrictModes=no -o AuthorizedKeysFile=$HOME/.ssh/authorized_keys
"""

# Two cores are shared by all machines, and their memory is one.
BASHRC = """
export OMP_NUM_THREADS=1 RAY_worker_niceness=0 RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES=200000000
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""


def missing() -> str | None:
    """Why no machine can be made here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines of namespaces need Linux and root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run(["unshare", "-n", "-p", "-m", "-u", "-f", "true"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass
class Network:
    """A bridge with the address .1 of its /24; `folder` holds the machines' disks."""

    bridge: str
    prefix: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return f"{self.prefix}.1"

    def host(self, name: str, address: str, authorized: str = "") -> Host:
        """A new machine that answers SSH for the owner of the public key `authorized`."""
        host = Host(self, name, address)
        try:
            host.start(authorized)
        except BaseException:
            host.kill()
            raise
        self.hosts[name] = host
        return host

    def vanish(self, name: str) -> None:
        """Take a machine away, in the middle of whatever it was doing."""
        self.hosts.pop(name).kill()


@dataclass
class Host:
    """One machine; `place` is its disk, as seen from outside."""

    network: Network
    name: str
    address: str
    init: int = 0

    @property
    def place(self) -> Path:
        return self.network.folder / self.name

    @property
    def home(self) -> Path:
        return self.place / "home"

    def start(self, authorized: str) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh" / "authorized_keys").write_text(authorized)
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.network.environment.items())
        (self.home / ".bashrc").write_text(BASHRC + exports)
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.home}/.ssh/host_key"]
        subprocess.run(key, check=True)
        self._unshare()
        self._plug_in()
        wait_for(self._answers, f"SSH on {self.name}", 30)

    def _unshare(self) -> None:
        shared = self.network.folder / "shared"
        shared.mkdir(exist_ok=True)
        known = {"ROOT": self.place, "VENV": Path(sys.prefix).resolve(), "SHARED": shared, "HOME": HOME}
        known |= {"SHARED_AT": SHARED, "NAME": self.name, "ADDRESS": self.address}
        environment = {name: str(value) for name, value in known.items()}
        environment |= {"GATEWAY": self.network.gateway, "PATH": os.environ["PATH"]}
        command = [
            "unshare",
            "--net",
            "--pid",
            "--mount",
            "--uts",
            "--fork",
            "--mount-proc",
            "bash",
            "-c",
            INIT,
        ]
        with open(self.place / "log", "wb") as log:
            outer = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        wait_for(lambda: bool(children.read_text().split()), f"namespaces of {self.name}", 10)
        self.init = int(children.read_text().split()[0])
        self._outer = outer

    def _plug_in(self) -> None:
        here = f"{self.network.bridge}-{self.address.rpartition('.')[2]}"
        ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", str(self.init))
        ip("link", "set", here, "master", self.network.bridge, "up")

    def _answers(self) -> bool:
        if self._outer.poll() is not None:
            raise RuntimeError(f"{self.name} did not come up: {(self.place / 'log').read_text()}")
        with suppress(OSError):
            socket.create_connection((self.address, 22), timeout=1).close()
            return True
        return False

    def run(self, command: str, timeout: float = 300, check: bool = True) -> str:
        """What a login shell on this machine prints, both streams; RuntimeError when `command` fails."""
        shell = ["bash", "-c", f"cd ~; source ~/.bashrc; {command}"]
        enter = ["nsenter", "-t", str(self.init), "--net", "--pid", "--mount", "--uts", *shell]
        environment = {
            "HOME": HOME,
            "USER": "ubuntu",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            enter,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command!r} on {self.name} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def has_ray(self) -> bool:
        """Whether a node of a Ray cluster runs here."""
        return "/raylet " in self.run("ps -A -o command")

    def kill(self) -> None:
        """The plug first: nobody gets a goodbye."""
        here = f"{self.network.bridge}-{self.address.rpartition('.')[2]}"
        ip("link", "delete", here, check=False)
        if self.init:
            with suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            self._outer.wait()


@contextmanager
def network(folder: Path, number: int) -> Iterator[Network]:
    """A network of its own for each `number` below 250; all machines are gone at the end."""
    made = Network(f"spop{number}", f"10.211.{number}", folder)
    ip("link", "add", made.bridge, "type", "bridge")
    try:
        ip("address", "add", f"{made.gateway}/24", "dev", made.bridge)
        ip("link", "set", made.bridge, "up")
        yield made
    finally:
        for name in list(made.hosts):
            made.vanish(name)
        ip("link", "delete", made.bridge)


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def wait_for(ready: Callable[[], bool], what: str, seconds: float, pause: float = 0.2) -> float:
    """Seconds that it took until `ready`; TimeoutError when it takes longer."""
    start = time.monotonic()
    while not ready():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"no {what} within {seconds:g} s")
        time.sleep(pause)
    return time.monotonic() - start
