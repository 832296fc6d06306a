"""Finding and reading data sets: Parquet, class folders, torchvision, the cache, and what can be wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image

from sparsepop.data import Data, Resident, Streamed, images, known, open_data
from sparsepop.data.parquet import ParquetSplit
from tests.test_data.made import pictures, png, write_folders, write_parquet, write_shard
from tests.test_data.opener import total

TRAIN = "train-00000-of-00001.parquet"


def everything(data: Data, split: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*data.batches(split, 7), strict=True)
    return torch.cat(xs), torch.cat(ys)


def test_both_layouts_hold_the_same_images(hub: Path, classed: Path, root: str) -> None:
    one, other = (
        open_data(str(hub), root=root, validation=0),
        open_data(str(classed), root=root, validation=0),
    )
    assert one.sizes == other.sizes
    for split in ("train", "test"):
        (x, y), (x2, y2) = everything(one, split), everything(other, split)
        assert torch.equal(x[torch.argsort(y, stable=True)], x2)
        assert torch.equal(y.sort().values, y2)


def test_images_that_were_resized_are_looked_at_again(tmp_path: Path, root: str) -> None:
    """Of test images the first training image says whether they are unequal."""
    folder = tmp_path / "resized"
    write_folders(folder, "train", pictures(30, 20, 20))
    write_folders(folder, "test", pictures(30))
    assert isinstance(open_data(str(folder), root=root), Streamed)
    shutil.rmtree(folder / "train")
    write_folders(folder, "train", pictures(30))
    data = open_data(str(folder), root=root)
    assert isinstance(data, Resident)
    assert data.shape == (3, 16, 16)


def test_pixels_survive_the_way_through_parquet(hub: Path, root: str) -> None:
    data = open_data(str(hub), root=root, validation=0)
    original = torch.from_numpy(pictures(60)).double()
    mean, deviation = original.mean((0, 1, 2)), original.std((0, 1, 2), correction=0)
    expected = ((original - mean) / deviation).permute(0, 3, 1, 2)
    assert torch.allclose(everything(data, "train")[0].double(), expected, atol=1e-5)


def test_grey_images_have_one_channel(tmp_path: Path, root: str) -> None:
    write_parquet(tmp_path / "grey" / "data", "train", pictures(12, channels=1))
    write_parquet(tmp_path / "grey" / "data", "test", pictures(3, channels=1))
    assert open_data(str(tmp_path / "grey"), root=root).shape == (1, 16, 16)


def test_grey_image_among_coloured_ones_is_converted(classed: Path, root: str) -> None:
    grey = pictures(1, channels=1)
    (classed / "train" / "class1" / "zzz.png").write_bytes(png(grey[0]))
    data = open_data(str(classed), root=root, validation=0)
    assert data.sizes["train"] == 61
    assert data.shape[0] == 3


@pytest.mark.parametrize("column", ["fine_label", "digit"])
def test_other_names_of_the_label_column(tmp_path: Path, root: str, column: str) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path, split, pictures(6), label=column)
    assert everything(open_data(str(tmp_path), root=root))[1].tolist() == [0, 1, 2, 0, 1, 2]


def test_classes_are_counted_where_no_names_are_given(tmp_path: Path, root: str) -> None:
    encoded = [png(p) for p in pictures(5)]
    for split in ("train", "test"):
        write_shard(tmp_path / f"{split}-00000-of-00001.parquet", encoded, [0, 1, 2, 3, 4], names=None)
    assert open_data(str(tmp_path), root=root).classes == 5


def test_unlabelled_test_split_gives_way_to_validation(tmp_path: Path, root: str) -> None:
    write_parquet(tmp_path, "train", pictures(6))
    write_parquet(tmp_path, "validation", pictures(4, seed=2))
    write_shard(tmp_path / "test-00000-of-00001.parquet", [png(p) for p in pictures(3)], [-1, -1, -1])
    assert open_data(str(tmp_path), root=root).sizes["test"] == 4


def test_name_is_looked_up_below_the_root(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEPOP_DATA", str(hub.parent))
    assert open_data("hub").sizes["test"] == 10
    hub.rename(hub.parent / "cifar10")
    assert open_data("cifar10").sizes["test"] == 10


# --- the cache of decoded images


def cached_pixels(root: str) -> list[Path]:
    return sorted(Path(root).glob(".decoded/*/pixels.npy"))


def test_decoded_images_are_reused_until_the_source_changes(hub: Path, root: str) -> None:
    first = everything(open_data(str(hub), root=root))
    train, test = cached_pixels(root)
    stamps = [path.stat().st_mtime_ns for path in (train, test)]
    again = everything(open_data(str(hub), root=root))
    assert torch.equal(first[0], again[0])
    assert [path.stat().st_mtime_ns for path in (train, test)] == stamps
    write_parquet(hub, "test", pictures(10, seed=9))
    assert not torch.equal(everything(open_data(str(hub), root=root))[0], first[0])
    assert len(cached_pixels(root)) == 3


def test_damaged_cache_is_made_again(hub: Path, root: str) -> None:
    first = everything(open_data(str(hub), root=root))
    for path in cached_pixels(root):
        os.truncate(path, 200)
    assert torch.equal(everything(open_data(str(hub), root=root))[0], first[0])


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_killed_process_left_of_the_cache_is_removed(
    hub: Path, root: str, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Without locks another process may still be at it."""
    open_data(str(hub), root=root, limit_bytes=0)
    entry = next(path for path in Path(root, ".decoded").glob("encoded-*") if path.is_dir())
    half = entry.with_name(f".{entry.name}-abcd")
    entry.rename(half)
    if not locks:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    open_data(str(hub), root=root, limit_bytes=0)
    assert entry.is_dir()
    assert half.exists() == (not locks)


def test_without_a_place_for_the_cache_images_are_decoded_each_time(hub: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert open_data(str(hub), root=str(blocked)).sizes["test"] == 10
    with pytest.raises(OSError, match="set SPARSEPOP_DATA to a folder with enough space"):
        open_data(str(hub), root=str(blocked), limit_bytes=0)


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["streamed", "resident"])
def test_several_processes_may_open_it_first(hub: Path, root: str, limit: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([total.__module__])  # torch is imported once, not by each process
    answers = context.SimpleQueue()
    workers = [context.Process(target=total, args=(str(hub), root, limit, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len({answers.get() for _ in workers}) == 1
    left = [path.name for path in Path(root, ".decoded").iterdir() if path.name.startswith(".")]
    assert left == []


# --- streamed sets


def test_streamed_images_that_need_no_resizing_equal_resident_ones(tmp_path: Path, root: str) -> None:
    write_parquet(tmp_path, "train", pictures(6, 224, 224))
    write_parquet(tmp_path, "test", pictures(4, 224, 224, seed=1))
    resident = open_data(str(tmp_path), root=root, validation=2)
    streamed = open_data(str(tmp_path), root=root, validation=2, limit_bytes=0)
    assert isinstance(resident, Resident)
    assert isinstance(streamed, Streamed)
    assert (resident.sizes, resident.shape) == (streamed.sizes, streamed.shape)
    original = torch.from_numpy(pictures(4, 224, 224, seed=1)).permute(0, 3, 1, 2) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (original - mean[:, None, None]) / deviation[:, None, None]
    assert torch.allclose(everything(streamed)[0], expected, atol=1e-5)
    for split in ("train", "validation", "test"):
        assert torch.equal(everything(resident, split)[1], everything(streamed, split)[1])


def test_a_set_is_streamed_when_its_pixels_exceed_the_limit(hub: Path, root: str) -> None:
    size = 70 * 16 * 16 * 3
    assert isinstance(open_data(str(hub), root=root, limit_bytes=size), Resident)
    assert isinstance(open_data(str(hub), root=root, limit_bytes=size - 1), Streamed)


def test_streamed_images_may_differ_in_size_and_mode(tmp_path: Path, root: str) -> None:
    write_folders(tmp_path, "train", pictures(6, 30, 50))
    write_folders(tmp_path, "val", pictures(3, 20, 10))
    (tmp_path / "train" / "class0" / "grey.png").write_bytes(png(pictures(1, 300, 40, 1)[0]))
    data = open_data(str(tmp_path), root=root, validation=0, limit_bytes=0)
    x, _ = data.batch(0, 0, 7)
    assert x.shape == (7, 3, 224, 224)
    assert everything(data)[0].shape == (3, 3, 224, 224)


def test_a_damaged_streamed_image_is_named_when_it_is_reached(classed: Path, root: str) -> None:
    broken = classed / "val" / "class1" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:60])
    data = open_data(str(classed), root=root, limit_bytes=0)
    with pytest.raises(ValueError, match=r"class1/0001.png is not a readable image"):
        everything(data)


# --- torchvision


def fake(pixels: Any, labels: Any, calls: list[tuple[str, bool]]) -> type:
    fetched: set[str] = set()

    class Fake:
        classes = ("a", "b", "c")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            if not download and root not in fetched:
                raise RuntimeError("Dataset not found")
            fetched.add(root)
            calls.append((root, train))
            self.data, self.targets = pixels(20 if train else 8), labels(20 if train else 8)

    return Fake


def test_coloured_set_from_torchvision(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    calls: list[tuple[str, bool]] = []
    labels = lambda count: [k % 3 for k in range(count)]  # noqa: E731
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fake(pictures, labels, calls))
    data = open_data("cifar100", root=root)
    assert calls == [(f"{root}/cifar100", True), (f"{root}/cifar100", False)]
    assert (data.name, data.shape, data.classes) == ("cifar100", (3, 16, 16), 3)
    assert data.sizes == {"train": 18, "validation": 2, "test": 8}


def test_a_set_that_another_user_fetched_is_only_read(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    pixels = lambda count: torch.from_numpy(pictures(count, channels=1)[..., 0])  # noqa: E731
    kind = fake(pixels, lambda count: torch.arange(count) % 3, [])
    monkeypatch.setattr(torchvision.datasets, "MNIST", kind)
    first = everything(open_data("mnist", root=root))

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(known, "locked", refused)
    assert torch.equal(everything(open_data("mnist", root=root))[0], first[0])
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded \(.*Permission denied"):
        open_data("mnist", root=f"{root}/elsewhere")


def test_grey_set_from_torchvision(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    pixels = lambda count: torch.from_numpy(pictures(count, channels=1)[..., 0])  # noqa: E731
    labels = lambda count: torch.arange(count) % 3  # noqa: E731
    monkeypatch.setattr(torchvision.datasets, "MNIST", fake(pixels, labels, []))
    data = open_data("mnist", root=root)
    assert data.shape == (1, 16, 16)
    assert everything(data)[1].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading:\nno network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(
        FileNotFoundError, match=r"downloaded \(Error downloading: no network\): put its Parq"
    ):
        open_data("cifar10", root=root)


# --- what can be wrong


def test_unknown_name(root: str) -> None:
    with pytest.raises(ValueError, match="unknown data set 'imagenot': use digits, mnist, cifar10, cifar100"):
        open_data("imagenot", root=root)


def test_missing_folder(tmp_path: Path, root: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data folder '.*/nowhere'"):
        open_data(str(tmp_path / "nowhere"), root=root)


def test_folder_with_neither_layout(tmp_path: Path, root: str) -> None:
    with pytest.raises(ValueError, match=r"holds neither SPLIT-00000-of-00001.parquet files nor train/CLASS"):
        open_data(str(tmp_path), root=root)


@pytest.mark.parametrize("keep", [0, 100, 5000, -100])
def test_truncated_parquet_file(hub: Path, root: str, keep: int) -> None:
    path = hub / "train-00001-of-00002.parquet"
    os.truncate(path, keep if keep >= 0 else path.stat().st_size + keep)
    with pytest.raises(
        ValueError, match=rf"{path.name} is damaged or no Parquet file \(.*\): download it again"
    ):
        open_data(str(hub), root=root)


def test_damaged_image_in_parquet(tmp_path: Path, root: str) -> None:
    write_parquet(tmp_path, "test", pictures(3))
    encoded = [png(p) for p in pictures(4)]
    write_shard(tmp_path / "train-00000-of-00002.parquet", encoded, [0, 1, 2, 0])
    encoded[2] = encoded[2][:50]
    write_shard(tmp_path / "train-00001-of-00002.parquet", encoded, [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"row 2 of .*train-00001-of-00002.parquet is not a readable image"):
        open_data(str(tmp_path), root=root)


def test_an_empty_shard_does_no_harm(tmp_path: Path, root: str) -> None:
    encoded = [png(picture) for picture in pictures(12)]
    write_shard(tmp_path / "train-00000-of-00003.parquet", [], [])
    write_shard(tmp_path / "train-00001-of-00003.parquet", encoded[:6], [0, 1, 2] * 2)
    write_shard(tmp_path / "train-00002-of-00003.parquet", encoded[6:], [0, 1, 2] * 2)
    write_parquet(tmp_path, "test", pictures(3))
    for limit in (0, 1 << 30):
        data = open_data(str(tmp_path), root=root, validation=0, limit_bytes=limit)
        assert everything(data, "train")[1].tolist() == [0, 1, 2] * 4


def test_shards_without_any_image(tmp_path: Path, root: str) -> None:
    write_shard(tmp_path / TRAIN, [], [])
    write_parquet(tmp_path, "test", pictures(3))
    with pytest.raises(ValueError, match="holds no images: check that the data set is complete"):
        open_data(str(tmp_path), root=root)
    with pytest.raises(ValueError, match=f"{TRAIN} and all shards with it hold no image"):
        ParquetSplit((tmp_path / TRAIN,), "image", np.zeros(0, np.int64)).sample()


def test_missing_shard(hub: Path, root: str) -> None:
    (hub / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-00000-of-00002.parquet is missing in"):
        open_data(str(hub), root=root)


def test_missing_split(hub: Path, classed: Path, root: str) -> None:
    (hub / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match="has the splits train: it needs train and test"):
        open_data(str(hub), root=root)
    (classed / "val").rename(classed / "dev")
    with pytest.raises(ValueError, match="neither test/CLASS nor val/CLASS"):
        open_data(str(classed), root=root)


def test_no_image_column(tmp_path: Path, root: str) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / TRAIN)
    write_parquet(tmp_path, "test", pictures(3))
    with pytest.raises(ValueError, match=f"{TRAIN} has no image column among text, label"):
        open_data(str(tmp_path), root=root)


def test_no_label_column(tmp_path: Path, root: str) -> None:
    images = pa.array([{"bytes": b""}], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": images, "a": [0], "b": [0]}), tmp_path / TRAIN)
    write_parquet(tmp_path, "test", pictures(3))
    with pytest.raises(ValueError, match=f"{TRAIN} has no integer column `label` among image, a, b"):
        open_data(str(tmp_path), root=root)


@pytest.mark.parametrize(("split", "label"), [("train", 3), ("test", 3), ("train", -1)])
def test_label_out_of_range(tmp_path: Path, root: str, split: str, label: int) -> None:
    write_parquet(tmp_path, "test", pictures(3))
    write_parquet(tmp_path, "train", pictures(3))
    path = tmp_path / f"{split}-00000-of-00001.parquet"
    write_shard(path, [png(p) for p in pictures(2)], [0, label])
    with pytest.raises(ValueError, match=f"{split} of .* has the label {label}, out of range for 3 classes"):
        open_data(str(tmp_path), root=root)


def test_class_folder_that_train_does_not_have(classed: Path, root: str) -> None:
    (classed / "val" / "class0").rename(classed / "val" / "class9")
    with pytest.raises(ValueError, match="class9 is a class that train does not have"):
        open_data(str(classed), root=root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_of_different_sizes_are_streamed(
    classed: Path, root: str, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    (classed / split / "class2" / "odd.png").write_bytes(png(pictures(1, 20, 18)[0]))
    data = open_data(str(classed), root=root, validation=0)
    assert isinstance(data, Streamed)
    assert sum(data.sizes.values()) == 71
    assert everything(data)[0].shape == (data.sizes["test"], 3, 224, 224)
    # which is remembered
    monkeypatch.setattr(images, "_decode", lambda *_: pytest.fail("decoded again"))
    assert isinstance(open_data(str(classed), root=root), Streamed)
    monkeypatch.undo()
    (classed / split / "class2" / "odd.png").unlink()
    assert isinstance(open_data(str(classed), root=root), Resident)


def test_images_of_different_sizes_need_no_cache(classed: Path, tmp_path: Path) -> None:
    (classed / "train" / "class2" / "odd.png").write_bytes(png(pictures(1, 20, 18)[0]))
    (tmp_path / "file").write_text("not a folder")
    assert isinstance(open_data(str(classed), root=str(tmp_path / "file")), Streamed)


def test_coloured_image_among_grey_ones(tmp_path: Path, root: str) -> None:
    write_folders(tmp_path, "train", pictures(4, channels=1))
    write_folders(tmp_path, "test", pictures(3, channels=3))
    with pytest.raises(ValueError, match="is in colour, the first image is grey"):
        open_data(str(tmp_path), root=root)


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_an_image_that_is_no_file(classed: Path, root: str, kind: str) -> None:
    odd = classed / "train" / "class1" / "odd.png"
    odd.mkdir() if kind == "folder" else odd.symlink_to(classed / "absent.png")
    with pytest.raises(ValueError, match=r"class1/odd.png is no file, or a link to none"):
        open_data(str(classed), root=root)


def test_images_of_16_bits(tmp_path: Path, root: str) -> None:
    write_folders(tmp_path, "test", pictures(3, channels=1))
    write_folders(tmp_path, "train", pictures(3, channels=1))
    Image.fromarray(np.full((16, 16), 999, np.uint16)).save(tmp_path / "train" / "class0" / "0000.png")
    with pytest.raises(ValueError, match="has more than 8 bits a channel"):
        open_data(str(tmp_path), root=root)


def test_validation_must_be_smaller_than_train(hub: Path, root: str) -> None:
    for limit in (0, 1 << 30):
        with pytest.raises(
            ValueError, match="validation 60 must be at least 0 and below the 60 training images"
        ):
            open_data(str(hub), root=root, validation=60, limit_bytes=limit)
