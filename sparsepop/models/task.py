"""What a network has to fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a network must fit: images of `shape` (C, H, W) in `classes` classes."""

    shape: tuple[int, int, int]
    classes: int
