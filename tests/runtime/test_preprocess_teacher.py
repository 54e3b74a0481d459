"""How far the exact preprocessing is from a teacher's own transform: torchvision on Pillow, 8 bits between the passes.

The figures asserted here are the ones that `spec/preprocess.py` states, in units of 1/255.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgefm.runtime.preprocess import prepare
from edgefm.spec.preprocess import Preprocess

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIZES = [(100, 150), (223, 225), (565, 584), (1400, 1000)]


def teacher(pixels: np.ndarray, kind: str) -> np.ndarray:
    """Resize the shorter side to 256 and crop 224, as torchvision does to a Pillow image, float32 `[3, 224, 224]`, 0 to 255."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    tall, wide = 256 * height // short, 256 * width // short
    image = Image.fromarray(pixels).resize((wide, tall), FILTERS[kind])
    top, left = round((tall - 224) / 2), round((wide - 224) / 2)
    return np.asarray(image.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1).astype(np.float32)


def difference(pixels: np.ndarray, kind: str) -> np.ndarray:
    spec = Preprocess(resize_to=256, filter=kind, mean=(0.0,) * 3, std=(1.0,) * 3)
    return np.abs(prepare(pixels, spec) * 255 - teacher(pixels, kind))


def noise(size: tuple[int, int], low: int, high: int) -> np.ndarray:
    return np.random.default_rng(size[0]).integers(low, high, (*size, 3), dtype=np.uint8, endpoint=True)


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_differs_by_rounding_only(size):
    found = difference(noise(size, 0, 255), "bilinear")
    assert found.max() <= 1.1
    assert found.mean() <= 0.35


@pytest.mark.parametrize("size", SIZES)
def test_bicubic_differs_by_rounding_only_where_nothing_overshoots(size):
    found = difference(noise(size, 96, 160), "bicubic")
    assert found.max() <= 1.3
    assert found.mean() <= 0.35


@pytest.mark.parametrize("size", SIZES)
def test_bicubic_differs_more_beside_black_and_white_because_pillow_clips_between_the_passes(size):
    found = difference(noise(size, 0, 255), "bicubic")
    assert found.max() <= 21
    assert found.mean() <= 0.37


def test_the_transform_above_is_the_one_of_torchvision():
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is part of the compress extra")
    for kind in FILTERS:
        mode = transforms.InterpolationMode(kind)
        own = transforms.Compose([transforms.Resize(256, mode), transforms.CenterCrop(224), transforms.PILToTensor()])
        for size in SIZES:
            pixels = noise(size, 0, 255)
            assert (own(Image.fromarray(pixels)).numpy() == teacher(pixels, kind)).all()


@pytest.mark.slow
def test_fundus_photographs_differ_as_stated(real_data):
    photographs = sorted((real_data / "drive" / "images").iterdir())
    found = np.stack([difference(np.asarray(Image.open(path).convert("RGB")), "bicubic") for path in photographs])
    assert found.mean() <= 0.28
    assert found.max() <= 3.4
    assert (found > 1.5).mean() <= 1e-4
