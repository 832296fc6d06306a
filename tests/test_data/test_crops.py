"""The parts of an image that streamed sets train and evaluate on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sparsepop.data.images import decode_crop
from sparsepop.data.streamed import central, random_part
from tests.test_data.made import png


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**31))
def test_random_part_lies_inside_the_image(width: int, height: int, seed: int) -> None:
    draws = torch.rand(23, generator=torch.Generator().manual_seed(seed)).numpy()
    left, top, right, bottom = random_part(draws, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_random_parts_have_the_published_areas_and_ratios() -> None:
    draws = torch.rand(500, 23, generator=torch.Generator().manual_seed(0)).numpy()
    boxes = np.array([random_part(row, 400, 400) for row in draws])
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, ratio = across * down / 400**2, across / down
    assert area.min() == pytest.approx(0.08, abs=0.02)
    assert area.max() == pytest.approx(1.0, abs=0.05)
    assert ratio.min() == pytest.approx(3 / 4, abs=0.02)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.03)


def test_random_part_of_a_very_long_image_is_central() -> None:
    assert random_part(np.full(23, 0.9, np.float32), 1000, 10) == pytest.approx(
        (493.33, 0, 506.67, 10), abs=0.01
    )


def test_central_part() -> None:
    assert central(224, 256, 512) == (16, 144, 240, 368)
    assert central(224, 224, 224) == (0, 0, 224, 224)


def test_a_crop_without_scaling_is_exact() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cut = decode_crop(png(picture), 8, lambda *_: (5, 2, 13, 10), lambda: "picture")
    assert np.array_equal(cut, picture[2:10, 5:13])


def test_drafted_jpeg_is_nearly_the_same(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(512), np.arange(400))[..., None] // np.array([4, 5, 6])
    sink = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(sink, "JPEG", quality=95)
    slow, fast = (
        decode_crop(sink.getvalue(), 32, lambda *_: (40, 60, 340, 460), lambda: "ramp", draft=draft)
        for draft in (False, True)
    )
    assert np.abs(slow.astype(int) - fast.astype(int)).max() <= 4
