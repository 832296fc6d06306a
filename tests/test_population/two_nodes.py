"""A cluster of two nodes on this machine, of which the second has a folder of its own under the same path.

`python -m tests.test_population.two_nodes FOLDER` prints the address, and ends with its standard input. The
second node lives in a mount namespace in which another file system lies over FOLDER, as node-local disks do.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

CLONE_NEWNS = 0x00020000


def main(folder: str) -> None:
    """Start both nodes and wait."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        hide(folder)
        cluster.add_node(**node)
        print(cluster.address, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


def hide(folder: str) -> None:
    """Put an empty file system over `folder`, for this process and those that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    main(sys.argv[1])
