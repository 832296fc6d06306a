"""Augmentation and normalisation of batches that are already tensors, without a wait for the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as zero_pad


class Crops(NamedTuple):
    """Per image: the crop's offset in the padded image, int64 (n), and whether it is mirrored, bool (n)."""

    top: Tensor
    left: Tensor
    flip: Tensor

    def part(self, which: slice) -> Crops:
        """The crops of some of the images."""
        return Crops(self.top[which], self.left[which], self.flip[which])


def draw_crops(count: int, pad: int, seed: int, device: torch.device) -> Crops:
    """Uniform offsets in [0, 2 * pad] and fair flips for `count` images, drawn on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    offsets = torch.randint(2 * pad + 1, (2, count), generator=generator, device=device)
    flip = torch.randint(2, (count,), generator=generator, device=device).bool()
    return Crops(offsets[0], offsets[1], flip)


def crop_and_flip(images: Tensor, crops: Crops, pad: int) -> Tensor:
    """Images (n, H, W, C) padded with black by `pad` on each side, cropped back to H x W and mirrored."""
    count, height, width, channels = images.shape
    padded = zero_pad(images, (0, 0, pad, pad, pad, pad))
    down = torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device).expand(count, width)
    across = torch.where(crops.flip[:, None], width - 1 - across, across) + crops.left[:, None]
    rows = torch.arange(count, device=images.device)[:, None] * (height + 2 * pad) + crops.top[:, None] + down
    pixels = rows[:, :, None] * (width + 2 * pad) + across[:, None, :]
    chosen = padded.view(-1, channels).index_select(0, pixels.view(-1))
    return chosen.view(count, height, width, channels)


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """uint8 (n, H, W, C) to float32 (n, C, H, W): pixel * scale + shift, both given per channel."""
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.mul_(scale[:, None, None]).add_(shift[:, None, None])
