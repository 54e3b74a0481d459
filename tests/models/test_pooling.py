"""Features of an inner node as one vector or as a grid: odd shapes, prefixes, planes of either order."""

from __future__ import annotations

import pytest
import torch

from edgefm.models.pooling import channels_last, grid, pool, poolable


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2,), False),
        ((2, 1), False),
        ((2, 0), False),
        ((2, 5, 0), False),
        ((2, 1, 1, 1), False),
        ((2, 3, 3, 3, 3), False),
        ((-1, 5), True),
        ((2, -1, 5), True),
        ((2, 1, 1, 5), True),
    ],
    ids=str,
)
def test_what_gives_more_than_one_number_can_be_pooled(shape: tuple[int, ...], expected: bool) -> None:
    assert poolable(shape) == expected


def test_where_both_readings_of_a_plane_are_possible_channels_come_first() -> None:
    assert not channels_last((2, 4, 4, 4))
    assert channels_last((2, 3, 3, 4))
    assert not channels_last((2, 4, 3, 3))
    assert not channels_last((2, 9, 4))
    plane = torch.arange(2.0)[None, :, None, None].expand(1, 2, 2, 2)  # channel 0 is all 0, channel 1 all 1
    assert pool(plane).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 5), (2, 5)), ((2, 7, 5), (2, 5)), ((2, 5, 3, 3), (2, 5)), ((2, 3, 3, 5), (2, 5)), ((2, 4, 4, 4), (2, 4))],
    ids=str,
)
def test_features_are_pooled_to_one_vector_per_image(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert pool(torch.rand(shape)).shape == expected


def test_prefix_tokens_are_left_out_of_the_mean() -> None:
    tokens = torch.rand(2, 9, 4)
    assert torch.equal(pool(tokens, prefix=5), tokens[:, 5:].mean(dim=1))


@pytest.mark.parametrize(
    ("shape", "prefix", "expected"),
    [
        ((2, 9, 4), 0, (2, 4, 3, 3)),
        ((2, 14, 4), 5, (2, 4, 3, 3)),
        ((2, 261, 4), None, (2, 4, 16, 16)),
        ((2, 265, 4), None, (2, 4, 16, 16)),
        ((2, 196, 4), None, (2, 4, 14, 14)),
        ((2, 10, 4), 0, None),
        ((2, 1, 4), 0, None),
        ((2, 3, 4), 5, None),
        ((2, 4), 0, None),
        ((2, 3, 3, 4), 0, (2, 4, 3, 3)),
        ((2, 4, 3, 3), 0, (2, 4, 3, 3)),
    ],
    ids=str,
)
def test_what_is_a_grid_and_what_is_not(shape: tuple[int, ...], prefix: int | None, expected: tuple[int, ...] | None) -> None:
    found = grid(torch.rand(shape), prefix)
    assert (None if found is None else tuple(found.shape)) == expected


def test_tokens_lie_row_by_row() -> None:
    tokens = torch.arange(1 + 9.0)[None, :, None]
    assert grid(tokens, 1)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]  # type: ignore[index]
