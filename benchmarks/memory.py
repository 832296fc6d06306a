"""The most memory that torch held while something ran."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Bytes of tensors held at the worst moment of the second call of `run`, beyond those held before it."""
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    return highest(_memory_events(profiler))


def highest(events: Iterable[Mapping[str, Any]]) -> int:
    """The largest sum that (Addr, Bytes) events reach; freeing what was there before counts for nothing."""
    mine: set[int] = set()
    held = most = 0
    for event in events:
        size, address = int(event["Bytes"]), int(event["Addr"])
        if size > 0:
            mine.add(address)
        elif address not in mine:
            continue
        else:
            mine.discard(address)
        held += size
        most = max(most, held)
    return most


def _memory_events(profiler: profile) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        profiler.export_chrome_trace(path)
        with open(path) as file:
            events = json.load(file)["traceEvents"]
    allocations = [event for event in events if event.get("name") == "[memory]"]
    return [event["args"] for event in sorted(allocations, key=lambda event: event["ts"])]
