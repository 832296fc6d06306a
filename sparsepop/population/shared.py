"""Whether every node of a cluster sees the storage: asked of the nodes themselves, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsepop.storage import Storage, StorageError, temporary

PATIENCE = 120.0  # seconds for all nodes together: each may have to start a process first
SHOWN = 5  # nodes that a message names
REMEDY = (
    "give --storage a folder that all nodes share under the same path (NFS) or a bucket (s3://bucket/folder)"
)
OUTSIDE = "run the command on a node of the cluster (ray job submit does)"


def check_shared(storage: Storage) -> None:
    """Raise StorageError unless every node of the connected cluster reads and writes what this process does.

    This process writes a probe below the root; a task on every node looks for it, writes one of its own, and
    that is read here. All probes are removed, and so are folders that were made for them. A local folder is
    not asked about where this process runs on the only node. The error names the nodes, what each of them
    saw, and what helps.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    outside = ray.util.client.ray.is_connected() or ray.get_runtime_context().get_node_id() not in nodes
    if storage.local and len(nodes) == 1 and not outside:
        return
    failed = _ask(storage, list(nodes))
    if failed:
        raise StorageError(refusal(storage, nodes, failed, outside=outside))


def refusal(storage: Storage, nodes: Mapping[str, str], failed: Mapping[str, str], *, outside: bool) -> str:
    """Why `storage` does not do for `nodes` (their addresses), of which some `failed` (the causes)."""
    shown = [f"{nodes[node]} ({failed[node]})" for node in sorted(failed, key=nodes.__getitem__)]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    remedy = f"{OUTSIDE}, and {REMEDY}" if outside else REMEDY
    who = "this process is outside the cluster, and " if outside else ""
    return (
        f"{storage} is not the same everywhere: {who}{len(failed)} of {len(nodes)} nodes cannot use it: "
        f"{', '.join(shown[:SHOWN])}{more}; {remedy}"
    )


def _ask(storage: Storage, nodes: list[str]) -> dict[str, str]:
    """The nodes that cannot use `storage`, each with the cause."""
    token = uuid4().hex
    with _probe(storage, token):
        asked = {_look_on(node).remote(storage.root, token, node): node for node in nodes}
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
        failed = {asked[task]: f"did not answer within {PATIENCE:g} s" for task in late}
        for task in ready:
            if cause := _outcome(storage, token, asked[task], task):
                failed[asked[task]] = cause
        for task in late:
            ray.cancel(task, force=True)
            storage.delete(_name(token, asked[task]))
    return failed


def _outcome(storage: Storage, token: str, node: str, task: Any) -> str:
    """What is wrong with a node that has answered, '' when nothing is."""
    try:
        cause = ray.get(task)
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())[:200]
    if cause:
        return cause
    path = _name(token, node)
    try:
        seen = storage.read(path) == node.encode()
    except FileNotFoundError:
        seen = False
    storage.delete(path)
    return "" if seen else "what it writes is not seen here"


def _look_on(node: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(look)


def look(root: str, token: str, node: str) -> str:
    """On a node: find the driver's probe and leave one; returns why that is impossible, '' when it is not."""
    storage = Storage(root)
    try:
        if storage.read(_name(token)) != token.encode():
            return "sees another file"
        storage.write(_name(token, node), node.encode())
    except FileNotFoundError:
        return "does not see it"
    except OSError as error:
        return " ".join(str(error).split())[:200]
    return ""


def _name(token: str, node: str = "driver") -> str:
    # hidden from lists; nobody asks before it is there, as a network file system may remember its absence
    return temporary(f"{token}-{node}")


@contextmanager
def _probe(storage: Storage, token: str) -> Iterator[None]:
    """The driver's file, and no trace of it afterwards."""
    with storage.no_new_folders():
        storage.write(_name(token), token.encode())
        try:
            yield
        finally:
            storage.delete(_name(token))
