"""Machines that are about to be taken away, as far as Ray is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import ray


def own_node() -> str:
    """The node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def leaving(nodes: Iterable[str]) -> Callable[[], bool]:
    """A function that tells whether Ray is draining one of `nodes`: a spot machine's notice, a scale-down."""
    watched = set(nodes)

    def asked() -> bool:
        # Ray Train's own preemption watcher reads the same; Ray has no public call for it
        draining: dict[str, int] = ray._private.state.state.get_draining_nodes()
        return not watched.isdisjoint(draining)

    return asked
