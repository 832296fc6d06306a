"""What both kinds of data set promise: purity, order, splits, ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsepop.data import SPLITS, Data, open_data


def keys(images: Tensor) -> list[bytes]:
    """Something hashable for every image."""
    return [image.numpy().tobytes() for image in images]


def split_keys(data: Data, split: str) -> list[bytes]:
    return [key for x, _ in data.batches(split, 7) for key in keys(x)]


def test_describes_itself(data: Data) -> None:
    assert data.sizes == {"train": 54, "validation": 6, "test": 10}
    assert data.classes == 3
    x, y = data.batch(0, 0, 8)
    assert x.shape == (8, *data.shape)
    assert x.dtype == torch.float32
    assert y.shape == (8,)
    assert y.dtype == torch.int64


def test_batch_is_pure(data: Data) -> None:
    x, y = data.batch(3, 11, 8)
    data.batch(4, 2, 8)
    data.batch(3, 0, 8)
    again, labels = data.batch(3, 11, 8)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)


@pytest.mark.parametrize("other", [(4, 11), (3, 12), (3, 11 + 6)], ids=["seed", "step", "epoch"])
def test_seed_step_and_epoch_change_the_batch(data: Data, other: tuple[int, int]) -> None:
    assert not torch.equal(data.batch(3, 11, 8)[0], data.batch(*other, 8)[0])


@pytest.mark.parametrize("size", [9, 54])
def test_every_training_image_comes_once_in_an_epoch(data: Data, size: int) -> None:
    steps = data.steps_per_epoch(size)
    for epoch in (0, 1):
        first = epoch * steps
        seen = [
            key
            for step in range(first, first + steps)
            for key in keys(data.batch(5, step, size, augment=False)[0])
        ]
        assert sorted(seen) == sorted(split_keys(data, "train"))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_the_one_rank_batch(data: Data, world: int) -> None:
    parts = [data.batch(1, 4, 10, rank=rank, world=world) for rank in range(world)]
    x, y = data.batch(1, 4, 10)
    assert torch.equal(torch.cat([part[0] for part in parts]), x)
    assert torch.equal(torch.cat([part[1] for part in parts]), y)


def test_labels_belong_to_their_images(data: Data) -> None:
    label_of = {
        key: int(label) for x, y in data.batches("train", 20) for key, label in zip(keys(x), y, strict=True)
    }
    x, y = data.batch(0, 0, 54, augment=False)
    assert [label_of[key] for key in keys(x)] == y.tolist()


def test_augmentation_changes_the_images_not_the_choice(data: Data) -> None:
    plain, augmented = data.batch(0, 0, 16, augment=False), data.batch(0, 0, 16)
    assert torch.equal(plain[1], augmented[1])
    assert not torch.equal(plain[0], augmented[0])


def test_splits_are_disjoint_and_complete(data: Data) -> None:
    splits = [split_keys(data, split) for split in SPLITS]
    assert [len(split) for split in splits] == [54, 6, 10]
    assert len({key for split in splits for key in split}) == 70


def test_held_out_images_never_come_in_training_whatever_the_seed(data: Data) -> None:
    trained = {
        key
        for seed in range(5)
        for step in range(data.steps_per_epoch(27))
        for key in keys(data.batch(seed, step, 27, augment=False)[0])
    }
    assert len(trained) == 54
    assert trained.isdisjoint(split_keys(data, "validation"))
    assert trained.isdisjoint(split_keys(data, "test"))


def test_last_partial_batch_is_evaluated(data: Data) -> None:
    assert [len(y) for _, y in data.batches("test", 4)] == [4, 4, 2]
    order = torch.cat([y for _, y in data.batches("test", 4)])
    assert order.tolist() == [k % 3 for k in range(10)]


def test_wrong_requests_are_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="batch size 55 exceeds the 54 training images"):
        data.steps_per_epoch(55)
    with pytest.raises(ValueError, match="batch size 0 is not positive"):
        data.steps_per_epoch(0)
    with pytest.raises(ValueError, match="step -1 is negative"):
        data.batch(0, -1, 8)
    with pytest.raises(ValueError, match="rank 2 is not among the 2 ranks"):
        data.batch(0, 0, 8, rank=2, world=2)
    with pytest.raises(ValueError, match="batch size 2 leaves some of 3 ranks"):
        data.batch(0, 0, 2, world=3)
    with pytest.raises(ValueError, match="unknown split 'dev': use one of train, validation, test"):
        data.batches("dev", 8)
    with pytest.raises(ValueError, match="batch size 0 is not positive"):
        data.batches("test", 0)


def test_many_seeds_at_once_keep_their_orders() -> None:
    data = open_data("digits")
    wanted = [data.batch(seed, 2, 32)[1] for seed in range(40)]
    again = [data.batch(seed, 2, 32)[1] for seed in reversed(range(40))]
    assert all(torch.equal(a, b) for a, b in zip(wanted, reversed(again), strict=True))
