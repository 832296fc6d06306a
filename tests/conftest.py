"""What every test starts from: one thread, so that timings and sums do not depend on the machine."""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import torch

torch.set_num_threads(1)
