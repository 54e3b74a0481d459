"""Corruptions: any size and kind of pixels, the same for the same seed, worse with severity, and the formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.errors import ImageError, InputError
from edgefm.verify.corruptions import MODALITIES, SEVERITIES, corrupt
from edgefm.verify.corruptions.blur import _smooth, convolved, motion_blur
from edgefm.verify.corruptions.modalities import CORRUPTIONS

EVERY = [(modality, name) for modality, names in MODALITIES.items() for name in names]
ONCE = list({name: (modality, name) for modality, name in EVERY}.values())
RANDOM = np.random.default_rng(0)


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Something like an organ: a bright oval with a texture, uint8."""
    down, right = np.mgrid[:height, :width] / max(height, width)
    light = 40 + 150 * np.exp(-((down - 0.5) ** 2 + (right - 0.4) ** 2) / 0.08) + 15 * np.sin(40 * right + 9 * down)
    return np.clip(light[..., None] + np.array([20, 0, -25])[:channels], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("modality", "name"), ONCE, ids=[name for _, name in ONCE])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2, 3), (5, 31, 4), (33, 29, 1), (2, 300)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_size_and_kind_of_pixels_keeps_shape_and_kind_and_what_went_in(
    modality: str, name: str, shape: tuple[int, ...], dtype: type
) -> None:
    pixels = RANDOM.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    before = pixels.copy()
    for severity in (1, 5):
        found = corrupt(pixels, name, severity, modality=modality, seed=1, index=2)
        assert found.shape == shape
        assert found.dtype == dtype
        assert not np.shares_memory(found, pixels)
        if shape[2:] == (4,):
            assert (found[..., 3] == before[..., 3]).all()
    assert (pixels == before).all()


@pytest.mark.parametrize(("modality", "name"), EVERY, ids=[f"{modality}-{name}" for modality, name in EVERY])
def test_a_severity_changes_the_image_and_the_fifth_more_than_the_first(modality: str, name: str) -> None:
    pixels = smooth(230, 224) ^ np.random.default_rng(0).integers(0, 16, (230, 224, 3), np.uint8)  # fine detail, too
    away = [
        np.mean([np.abs(corrupt(pixels, name, s, modality=modality, index=k).astype(float) - pixels).mean() for k in range(6)])
        for s in (1, 5)
    ]
    assert 0 < away[0] < away[1]
    assert len(MODALITIES[modality][name]) == len(SEVERITIES)


@pytest.mark.parametrize(("modality", "name"), ONCE, ids=[name for _, name in ONCE])
def test_the_same_seed_and_image_give_the_same_pixels_and_chance_depends_on_both(modality: str, name: str) -> None:
    pixels = smooth(40, 50)

    def made(seed: int, index: int) -> bytes:
        return corrupt(pixels, name, 3, modality=modality, seed=seed, index=index).tobytes()

    assert made(7, 4) == made(7, 4)
    by_chance = "noise" in name or name in ("motion_blur", "stain_deposit", "bubble", "characters")
    assert (made(7, 4) != made(7, 5)) is by_chance
    assert (made(7, 4) != made(8, 4)) is by_chance


@pytest.mark.parametrize(("modality", "name"), ONCE, ids=[name for _, name in ONCE])
def test_three_equal_channels_stay_equal_and_are_what_one_channel_becomes(modality: str, name: str) -> None:
    grey = smooth(30, 40, 1)
    one = corrupt(grey[..., 0], name, 4, modality=modality)
    three = corrupt(np.repeat(grey, 3, axis=2), name, 4, modality=modality)
    assert (three == one[..., None]).all()


@pytest.mark.parametrize(("modality", "name"), ONCE, ids=[name for _, name in ONCE])
def test_sixteen_bits_in_a_window_go_the_way_of_eight(modality: str, name: str) -> None:
    pixels = smooth(40, 30, 1)[..., 0]
    wide = (1000 + 16 * pixels.astype(np.int64)).astype(np.uint16)
    found = corrupt(wide, name, 3, modality=modality, window=(1000, 1000 + 16 * 255))
    wanted = corrupt(pixels, name, 3, modality=modality)
    assert np.abs((found.astype(float) - 1000) / 16 - wanted).max() <= 0.51 + (name in ("jpeg_compression", "shot_noise"))


def test_what_lies_outside_the_window_is_cut_off_as_for_the_model() -> None:
    pixels = np.array([[0, 1000, 1500, 2000, 65535]], np.uint16)
    found = corrupt(pixels, "brightness_down", 5, modality="xray", window=(1000, 2000))
    assert found.tolist() == [[1000, 1000, 1250, 1500, 1500]]


def test_tone_by_hand() -> None:
    pixels = np.array([[0, 51, 102, 255]], np.uint8)
    assert corrupt(pixels, "brightness_up", 5, modality="xray").tolist() == [[0, 76, 153, 255]]  # x 1.5; 76.5 to even
    assert corrupt(pixels, "contrast_down", 5, modality="xray").tolist() == [[61, 82, 102, 163]]  # 102 + 0.4 (p - 102)
    assert corrupt(pixels, "gamma_corr_up", 5, modality="ct").tolist() == [[0, 10, 41, 255]]  # (p / 255)^2
    colour = np.array([[[200, 100, 150], [80, 80, 80], [0, 0, 0], [255, 0, 0]]], np.uint8)
    # saturation 0.5 + 0.25: 200 - 2 ... the lowest becomes 200 x 0.25, the middle stays in the middle; grey and full stay
    assert corrupt(colour, "saturate", 5, modality="pathology").tolist() == [[[200, 50, 125], [80] * 3, [0] * 3, [255, 0, 0]]]


@pytest.mark.parametrize("side", [224, 672])
def test_noise_has_its_spread_whatever_the_size_once_the_image_is_as_small_as_the_model_sees_it(side: int) -> None:
    pixels = np.full((side, side), 128, np.uint8)
    x, scale = 128 / 255, side / 224

    def spread(name: str) -> float:
        found = corrupt(pixels, name, 1, modality="xray").astype(float) / 255
        return float(found.reshape(224, int(scale), 224, int(scale)).mean(axis=(1, 3)).std())

    assert spread("gaussian_noise") == pytest.approx(0.04, rel=0.03)
    assert spread("speckle_noise") == pytest.approx(0.05 * x, rel=0.03)
    assert spread("shot_noise") == pytest.approx(np.sqrt(x / 60), rel=0.03)
    found = corrupt(pixels, "impulse_noise", 5, modality="xray")
    assert (found == 0).mean() == pytest.approx(0.085, rel=0.05)
    assert (found == 255).mean() == pytest.approx(0.085, rel=0.05)


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"])
def test_blur_leaves_an_even_image_and_takes_as_much_from_one_three_times_as_large(name: str) -> None:
    modality = "xray" if name == "gaussian_blur" else "dermatoscopy"
    assert (corrupt(np.full((50, 70), 77, np.uint8), name, 5, modality=modality) == 77).all()
    large = smooth(336, 336, 1)[..., 0]
    small = large[1::3, 1::3]
    one = corrupt(large, name, 5, modality=modality)[1::3, 1::3]
    other = corrupt(small, name, 5, modality=modality)
    inner = (slice(12, -12), slice(12, -12))
    assert (
        np.abs(one[inner].astype(float) - other[inner]).mean() < 0.35 * np.abs(other[inner].astype(float) - small[inner]).mean()
    )


def test_a_convolution_is_the_one_of_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x, kernel = RANDOM.random((9, 14, 2)).astype(np.float32), RANDOM.random((5, 3))
    kernel /= kernel.sum()
    wanted = np.stack([ndimage.convolve(x[..., k], kernel, mode="reflect") for k in range(2)], axis=2)
    assert convolved(x, kernel) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("side", "wanted"), [(1, 1), (7, 8), (11, 12), (225, 225), (227, 240), (2557, 2560)])
def test_a_transform_has_no_large_prime_factor(side: int, wanted: int) -> None:
    assert _smooth(side) == wanted


def test_a_trail_of_motion_is_longest_where_sigma_allows_and_never_turns_back() -> None:
    dot = np.zeros((41, 41, 1), np.float32)
    dot[20, 20] = 1
    trail = motion_blur(dot, np.random.default_rng(0), (8, 4), 1.0)[..., 0]
    assert trail.sum() == pytest.approx(1, abs=1e-4)
    assert trail[:, :19].max() < 1e-6
    row, column = np.unravel_index(trail.argmax(), trail.shape)
    assert (row, column) in ((20, 20), (19, 21), (20, 21), (21, 21))
    assert trail[:, 37:].max() < 1e-3


def test_pixels_are_as_large_in_a_large_image_as_in_a_small_one() -> None:
    for side, blocks in ((100, 10), (224, 22), (1000, 99)):
        found = corrupt(smooth(side, side, 1)[..., 0], "pixelate", 5, modality="xray")  # 0.1 of 100, 224, 223.9...
        assert len(np.unique(np.flatnonzero(np.diff(found.astype(int), axis=0).any(axis=1)))) <= blocks


def test_black_corners_and_deposits_are_black_and_bubbles_are_brighter() -> None:
    white = np.full((101, 101, 3), 255, np.uint8)
    white[0, 0, 0] = 254  # else it would be grey
    corner = corrupt(white, "black_corner", 3, modality="dermatoscopy")
    assert corner[0, 0].tolist() == corner[0, -1].tolist() == [0, 0, 0]
    assert corner[50, 0].tolist() == corner[50, 50].tolist() == [255] * 3
    share = [
        np.mean([(corrupt(white, "stain_deposit", s, modality="pathology", index=k) == 0).mean() for k in range(20)])
        for s in (1, 5)
    ]
    assert 0.005 < share[0] < 0.02  # a disk of radius 14 has 1.2 % of 224 x 224; some lie partly outside
    assert 4 < share[1] / share[0] < 6
    dark = np.zeros((101, 101), np.uint8)
    assert set(np.unique(corrupt(dark, "bubble", 5, modality="pathology"))) == {0, 100, 130}


@pytest.mark.parametrize(
    ("modality", "name", "severity", "words"),
    [("skin", "pixelate", 1, "expected xray"), ("oct", "bubble", 1, "expected pixelate"), ("oct", "pixelate", 6, "1 to 5")],
)
def test_what_does_not_exist_is_an_error(modality: str, name: str, severity: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        corrupt(np.zeros((2, 2), np.uint8), name, severity, modality=modality)


def test_no_image_and_one_that_jpeg_cannot_hold_are_errors() -> None:
    with pytest.raises(ImageError, match="float64"):
        corrupt(np.zeros((2, 2)), "pixelate", 1, modality="xray")
    with pytest.raises(ImageError, match="65500 a side for JPEG"):
        corrupt(np.zeros((1, 65_501), np.uint8), "jpeg_compression", 1, modality="xray")


def test_every_corruption_is_part_of_some_modality() -> None:
    assert set(CORRUPTIONS) == {name for _, name in EVERY}
