"""The input contract read off other libraries' configurations, held against what those libraries do with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_data_config

from edgefm.errors import InputError
from edgefm.models.contract import preprocess_from_processor, preprocess_from_timm
from edgefm.runtime.preprocess import Preprocessor
from edgefm.spec.preprocess import Preprocess

ROUNDING = 2.5 / 255 / 0.2  # Pillow rounds to 8 bits after each pass; in units of the smallest std here


def photograph(height: int, width: int) -> np.ndarray:
    """A smooth colour picture, uint8 `[H, W, 3]`."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(9 * x + 3 * y), np.cos(7 * y), np.sin(5 * x * y + 1)]
    return np.stack([(127 + 100 * wave) for wave in waves], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [(300, 400), (401, 223), (64, 64)], ids=str)
@pytest.mark.parametrize(
    "cfg",
    [
        {},
        {"crop_pct": 0.95, "interpolation": "bilinear"},
        {"crop_pct": 0.9, "crop_mode": "squash"},
        {"crop_pct": 1.0, "mean": (0.485, 0.485, 0.485), "std": (0.229, 0.229, 0.229)},
        {"input_size": (3, 96, 96), "crop_pct": 0.875},
    ],
    ids=["default", "bilinear", "squash", "grey teacher", "small"],
)
def test_pixels_come_out_as_timms_own_transform_makes_them(cfg: dict[str, Any], size: tuple[int, int]) -> None:
    pixels = photograph(*size)
    theirs = create_transform(**resolve_data_config(pretrained_cfg={"input_size": (3, 224, 224)} | cfg))(
        Image.fromarray(pixels)
    )
    ours = Preprocessor(preprocess_from_timm(cfg, "test"), backend="numpy")(pixels)
    assert isinstance(theirs, torch.Tensor)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=ROUNDING)


def test_every_published_timm_configuration_is_read_or_refused_in_words() -> None:
    refused = []
    for name in timm.list_pretrained()[::7]:
        cfg = timm.get_pretrained_cfg(name).to_dict()
        try:
            found = preprocess_from_timm(cfg, name)
        except InputError:
            refused.append(name)
            continue
        transform = create_transform(**resolve_data_config(pretrained_cfg=cfg))
        resize, crop = transform.transforms[:2]  # type: ignore[union-attr]
        sides = resize.size if isinstance(resize.size, (tuple, list)) else (resize.size,)
        assert set(sides) == {found.resize_to}, name
        assert tuple(crop.size) == (found.size, found.size), name
    assert len(refused) < 20


@pytest.mark.parametrize("size", [(300, 400), (401, 223)], ids=str)
@pytest.mark.parametrize("kind", ["BitImageProcessor", "ViTImageProcessor", "CLIPImageProcessor"])
def test_pixels_come_out_as_transformers_own_processor_makes_them(kind: str, size: tuple[int, int]) -> None:
    processor = getattr(transformers, kind)()
    config = processor.to_dict()
    pixels = photograph(*size)
    theirs = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    ours = Preprocessor(preprocess_from_processor(config, "test"), backend="numpy")(pixels)
    np.testing.assert_allclose(ours, theirs, atol=ROUNDING)


def test_phikons_processor_squashes_bilinearly() -> None:
    config = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "ViTImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 224, "width": 224},
    }
    assert preprocess_from_processor(config, "phikon") == Preprocess(resize="squash", filter="bilinear")


@pytest.mark.parametrize("kind", ["ViTFeatureExtractor", "CLIPFeatureExtractor"])
def test_a_bare_number_means_what_its_processor_means(kind: str) -> None:
    found = preprocess_from_processor({"size": 224, "feature_extractor_type": kind}, "old")
    assert found.resize == ("squash" if kind.startswith("ViT") else "shorter")


def test_another_rescale_factor_goes_into_mean_and_std() -> None:
    found = preprocess_from_processor({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, "odd")
    np.testing.assert_allclose(found.mean + found.std, 0.5)
    plain = preprocess_from_processor({"do_rescale": False, "do_normalize": False}, "plain")
    np.testing.assert_allclose(plain.std, 1 / 255)


@pytest.mark.parametrize(
    "config",
    [
        {"resample": 1},
        {"resample": 0},
        {"do_resize": False},
        {"do_pad": True},
        {"crop_pct": 0.875},
        {"size": {"height": 224, "width": 448}},
    ],
    ids=str,
)
def test_what_preprocess_has_no_word_for_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        preprocess_from_processor(config, "odd")
