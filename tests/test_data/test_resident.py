"""Resident sets: digits, normalisation and the augmentation on the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsepop.data import Resident, open_data
from sparsepop.data.augment import Crops, crop_and_flip, draw_crops, normalise


def test_digits() -> None:
    data = open_data("digits")
    assert isinstance(data, Resident)
    assert (data.shape, data.classes) == ((1, 8, 8), 10)
    assert data.sizes == {"train": 1437 - 143, "validation": 143, "test": 360}


def test_grey_images_are_not_augmented() -> None:
    data = open_data("digits")
    assert torch.equal(data.batch(0, 0, 64)[0], data.batch(0, 0, 64, augment=False)[0])


@pytest.mark.parametrize("held", [0, 1, 1436])
def test_validation_size_can_be_chosen(held: int) -> None:
    data = open_data("digits", validation=held)
    assert data.sizes == {"train": 1437 - held, "validation": held, "test": 360}
    assert sum(len(y) for _, y in data.batches("validation", 100)) == held


@pytest.mark.parametrize("held", [-1, 1437])
def test_validation_must_leave_training_images(held: int) -> None:
    with pytest.raises(ValueError, match=f"validation {held} must be .* below the 1437 training images"):
        open_data("digits", validation=held)


def test_training_images_have_mean_0_and_deviation_1_per_channel(hub: Path, root: str) -> None:
    data = open_data(str(hub), root=root)
    x = torch.cat([x for x, _ in data.batches("train", 10)]).double()
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3, dtype=torch.double), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.double), atol=1e-5)


def test_crops_equal_those_cut_one_by_one() -> None:
    images = torch.randint(0, 256, (20, 8, 6, 3), dtype=torch.uint8)
    crops = draw_crops(20, 2, 5, torch.device("cpu"))
    cut = crop_and_flip(images, crops, 2)
    for k in range(20):
        padded = torch.zeros(12, 10, 3, dtype=torch.uint8)
        padded[2:10, 2:8] = images[k]
        top, left = int(crops.top[k]), int(crops.left[k])
        expected = padded[top : top + 8, left : left + 6]
        assert torch.equal(cut[k], expected.flip(1) if crops.flip[k] else expected)


def test_crops_reach_every_offset_and_both_directions() -> None:
    crops = draw_crops(2000, 4, 1, torch.device("cpu"))
    for offsets in (crops.top, crops.left):
        assert offsets.unique().tolist() == list(range(9))
    assert 0.45 < crops.flip.float().mean() < 0.55


def test_crop_in_the_middle_changes_nothing() -> None:
    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    middle = Crops(torch.full((3,), 1), torch.full((3,), 1), torch.zeros(3, dtype=torch.bool))
    assert torch.equal(crop_and_flip(images, middle, 1), images)


def test_normalise_scales_each_channel() -> None:
    images = torch.tensor([[[[10, 20]]]], dtype=torch.uint8)
    out = normalise(images, torch.tensor([1.0, 0.5]), torch.tensor([0.0, 1.0]))
    assert out.shape == (1, 2, 1, 1)
    assert out.is_contiguous()
    assert out.flatten().tolist() == [10.0, 11.0]


@pytest.mark.gpu
def test_batch_never_waits_for_the_gpu(hub: Path, root: str) -> None:
    data = open_data(str(hub), "cuda", root=root)
    data.batch(0, 0, 8)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(20):
            x, _ = data.batch(1, step, 8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.is_cuda
