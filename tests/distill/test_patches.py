"""Which patches are drawn, and the student's features at the same places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgefm.distill.patches import draw_patches, resample_patches, take_patches

IMAGES = np.array([5, 0, 17])


def test_patches_are_a_pure_function_of_seed_image_and_view() -> None:
    drawn = draw_patches(1, IMAGES, 2, 49, 16)
    assert drawn.shape == (3, 16)
    np.testing.assert_array_equal(draw_patches(1, IMAGES[::-1], 2, 49, 16), drawn[::-1])
    np.testing.assert_array_equal(draw_patches(1, IMAGES[1:2], 2, 49, 16), drawn[1:2])
    for other in (
        draw_patches(2, IMAGES, 2, 49, 16),
        draw_patches(1, IMAGES, 3, 49, 16),
        draw_patches(1, IMAGES + 1, 2, 49, 16),
    ):
        assert (other != drawn).any(axis=1).all()


def test_no_patch_is_drawn_twice_and_all_are_drawn_as_often() -> None:
    drawn = draw_patches(0, np.arange(2000), 0, 49, 16)
    assert (np.diff(drawn, axis=1) > 0).all()
    counts = np.bincount(drawn.ravel(), minlength=49)
    assert abs(counts / (2000 * 16 / 49) - 1).max() < 0.15


def test_a_grid_with_fewer_cells_is_kept_whole() -> None:
    assert draw_patches(0, IMAGES, 0, 4, 16).tolist() == [[0, 1, 2, 3]] * 3


def test_patches_are_taken_row_by_row() -> None:
    grid = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    found = take_patches(grid, torch.tensor([[1, 2], [0, 3]]))
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == grid[0, :, 0, 1].tolist()
    assert found[0, 1].tolist() == grid[0, :, 1, 0].tolist()
    assert found[1, 1].tolist() == grid[1, :, 1, 1].tolist()


@pytest.mark.parametrize(
    ("mine", "size"), [((5, 5), (7, 7)), ((14, 14), (7, 7)), ((7, 7), (16, 16)), ((1, 1), (3, 3)), ((4, 6), (3, 2))]
)
def test_a_students_grid_is_resampled_bilinearly_at_those_cells(mine: tuple[int, int], size: tuple[int, int]) -> None:
    grid = torch.rand(3, 4, *mine, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    patches = torch.from_numpy(draw_patches(0, IMAGES, 0, size[0] * size[1], 5))
    whole = functional.interpolate(grid, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample_patches(grid, patches, size), take_patches(whole, patches))


def test_grids_of_one_size_are_compared_cell_by_cell() -> None:
    grid = torch.rand(3, 4, 7, 7)
    patches = torch.from_numpy(draw_patches(0, IMAGES, 0, 49, 9))
    torch.testing.assert_close(resample_patches(grid, patches, (7, 7)), take_patches(grid, patches))
