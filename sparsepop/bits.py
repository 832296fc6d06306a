"""Boolean tensors packed to one bit an entry, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_bits(mask: Tensor) -> Tensor:
    """A boolean tensor of n entries as ceil(n / 8) uint8, the first entry in the lowest bit."""
    flat = mask.reshape(-1).to(torch.uint8)
    flat = F.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    return (flat << _places(mask.device)).sum(1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """The boolean tensor of `shape` that `pack_bits` packed."""
    bits = (packed[:, None] >> _places(packed.device)) & 1
    count = torch.Size(shape).numel()
    return bits.reshape(-1)[:count].bool().view(torch.Size(shape))


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
