"""Views are pure functions of (seed, image, view), the same for every size and normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgefm.runtime.preprocess import Preprocessor
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import AugmentRecipe
from edgefm.train.randomness import bits, order, torch_seed, uniform
from edgefm.train.views import apply_views, draw_views, normalise

STILL = AugmentRecipe(flip=0, rotate=0, zoom=0, shift=0, brightness=0, contrast=0)


def smooth(count: int, side: int, channels: int = 1) -> torch.Tensor:
    """Images that look the same at every size."""
    axis = (torch.arange(side) + 0.5) / side
    waves = [torch.sin(3 * axis[:, None] + k) * torch.cos(4 * axis[None, :] - k) for k in range(count * channels)]
    return (torch.stack(waves).reshape(count, channels, side, side) + 1) / 2


def test_the_random_bits_are_those_of_splitmix64() -> None:
    # The generator's reference output from state 0 is the finalizer of its increments.
    assert [int(bits(0)), hex(int(bits(0)))] == [16294208416658607535, "0xe220a8397b1dcdaf"]


def test_random_bits_depend_on_every_key_and_on_their_order() -> None:
    keys = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (1, 2), (1, 2, 3, 0), (-1, 2, 3), (2**31 - 1, 2, 3)]
    assert len({int(bits(*key)) for key in keys}) == len(keys)


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    numbers = uniform(0, np.arange(100_000), 3)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert np.histogram(numbers, bins=10, range=(0, 1))[0] == pytest.approx(10_000, rel=0.05)


def test_the_order_of_an_epoch_is_a_permutation_of_its_own() -> None:
    first, second = order(7, 0, 1000), order(7, 1, 1000)
    assert sorted(first) == list(range(1000))
    assert (first != second).any()
    assert (first == order(7, 0, 1000)).all()
    assert (order(7, 0, 1) == [0]).all()


def test_torch_takes_every_step_seed() -> None:
    for step in range(100):
        torch.Generator().manual_seed(torch_seed(2**31 - 1, step, 0))


def test_a_view_does_not_depend_on_the_batch_it_is_in() -> None:
    recipe = AugmentRecipe()
    x = smooth(5, 24)
    together = apply_views(x, draw_views(3, np.arange(5), 2, recipe))
    for image in (4, 0, 2):
        alone = apply_views(x[image : image + 1], draw_views(3, np.array([image]), 2, recipe))
        assert torch.equal(alone[0], together[image])


@pytest.mark.parametrize("change", ["seed", "image", "view"])
def test_another_seed_image_or_view_gives_another_picture(change: str) -> None:
    keys = {"seed": 0, "image": 0, "view": 0}
    x = smooth(1, 24)
    pictures = []
    for value in (0, 1):
        key = keys | {change: value}
        pictures.append(apply_views(x, draw_views(key["seed"], np.array([key["image"]]), key["view"], AugmentRecipe())))
    assert (pictures[0] - pictures[1]).abs().max() > 0.01


def test_teacher_and_student_of_different_sizes_see_the_same_view() -> None:
    views = draw_views(0, np.arange(8), 1, AugmentRecipe(rotate=30, zoom=0.3, shift=0.2))
    small, large = apply_views(smooth(8, 48), views), apply_views(smooth(8, 144), views)
    assert (functional.avg_pool2d(large, 3) - small).abs().max() < 0.02


def test_no_augmentation_leaves_every_value_as_it_is() -> None:
    x = torch.rand(3, 3, 9, 9)
    seen = apply_views(x, draw_views(0, np.arange(3), 0, STILL))
    assert (seen - x).abs().max() <= 1e-7


def test_a_certain_flip_mirrors_left_and_right() -> None:
    x = torch.rand(2, 1, 8, 8)
    seen = apply_views(
        x, draw_views(0, np.arange(2), 0, AugmentRecipe(flip=1, rotate=0, zoom=0, shift=0, brightness=0, contrast=0))
    )
    assert (seen - x.flip(-1)).abs().max() < 1e-5


def test_half_of_the_images_are_mirrored() -> None:
    flips = draw_views(0, np.arange(4000), 0, AugmentRecipe(flip=0.5, rotate=0, zoom=0, shift=0)).affine
    assert flips is not None
    assert (flips[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_parameters_stay_within_the_recipe() -> None:
    recipe = AugmentRecipe(flip=0, rotate=20, zoom=0.25, shift=0.1, brightness=0.2, contrast=0.3)
    views = draw_views(0, np.arange(5000), 0, recipe)
    assert views.affine is not None
    angle = torch.rad2deg(torch.atan2(views.affine[:, 1, 0], views.affine[:, 0, 0])).abs().max().item()
    scale = views.affine[:, :, :2].det().abs().sqrt()
    assert 19 < angle <= 20
    assert 1 / 1.25 <= scale.min().item() + 1e-6 < 0.81
    assert 1.24 < scale.max().item() <= 1.25 + 1e-6
    assert 0.19 < views.affine[:, :, 2].abs().max().item() <= 0.2 + 1e-6  # the side is 2 units long
    assert 0.19 < views.offset.abs().max().item() <= 0.2
    assert 0.29 < (views.gain - 1).abs().max().item() <= 0.3 + 1e-6


@pytest.mark.parametrize("recipe", [AugmentRecipe(zoom=1, shift=1, rotate=360, contrast=1, brightness=1)])
def test_the_wildest_view_stays_a_finite_picture(recipe: AugmentRecipe) -> None:
    seen = apply_views(torch.rand(200, 1, 5, 5), draw_views(0, np.arange(200), 0, recipe))
    assert torch.isfinite(seen).all()
    assert 0 <= seen.min() <= seen.max() <= 1


def test_normalising_windowed_pixels_is_what_the_runtime_prepares() -> None:
    spec = Preprocess(channels=3, size=20, resize_to=24, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4), window16=(100.0, 4000.0))
    neutral = Preprocess(channels=3, size=20, resize_to=24, mean=(0, 0, 0), std=(1, 1, 1), window16=(100.0, 4000.0))
    pixels = np.random.default_rng(0).integers(0, 5000, (31, 40)).astype(np.uint16)
    windowed = torch.from_numpy(Preprocessor(neutral)(pixels))[None]
    assert (normalise(windowed, spec)[0] - torch.from_numpy(Preprocessor(spec)(pixels))).abs().max() < 1e-5
