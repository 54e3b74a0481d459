"""Images for the loop: what is kept and what is decoded again never changes a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefm.errors import ImageError
from edgefm.spec.preprocess import Preprocess
from edgefm.train.images import Images, parts

from .toys import GREY, data_of

COLOUR = Preprocess(channels=3, size=16, resize_to=16)


def mixed() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(16, 16), (60, 50), (10, 12, 3), (64, 64, 4), (16, 16, 1), (300, 20)]
    return [
        rng.integers(0, 256 if i % 2 else 65536, shape).astype(np.uint8 if i % 2 else np.uint16)
        for i, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("keep", [0, 3000, 2**30], ids=["none kept", "some kept", "all kept"])
def test_kept_images_are_the_decoded_ones(spec: Preprocess, keep: int) -> None:
    dataset = data_of(mixed(), None, ["train"] * 6)
    fresh = Images(dataset, keep=0).batch(np.arange(6), spec)
    images = Images(dataset, keep=keep)
    for _ in range(3):
        assert torch.equal(images.batch(np.arange(6), spec), fresh)
    assert images.free >= 0


def test_an_image_that_fits_is_decoded_once() -> None:
    dataset = data_of(mixed(), None, ["train"] * 6)
    images = Images(dataset)
    for _ in range(4):
        images.batch(np.arange(6), COLOUR)
    assert dataset.store.reads == [1] * 6  # type: ignore[attr-defined]


def test_a_large_grey_image_is_kept_as_one_channel() -> None:
    images = Images(data_of([np.zeros((500, 500), np.uint16)], None, ["train"]), keep=10_000)
    images.batch(np.array([0]), COLOUR)
    assert 10_000 - images.free == 16 * 16 * 4


def test_batches_come_in_order_whatever_the_threads_do() -> None:
    arrays = [np.full((16, 16), i, np.uint8) for i in range(40)]
    images = Images(data_of(arrays, None, ["train"] * 40))
    chosen = parts(np.arange(40)[::-1].copy(), 7)
    seen = [batch[:, 0, 0, 0] * 255 for batch in images.batches(chosen, GREY)]
    assert torch.cat(seen).round().int().tolist() == list(range(40))[::-1]


def test_an_image_that_breaks_while_it_is_read_ahead_is_named() -> None:
    class Broken:
        def pixels(self, key: int) -> np.ndarray:
            raise ImageError("image-3 is truncated")

    dataset = data_of([np.zeros((4, 4), np.uint8)] * 4, None, ["train"] * 4)
    object.__setattr__(dataset, "store", Broken())
    with pytest.raises(ImageError, match="image-3"):
        list(Images(dataset).batches([np.array([0, 1]), np.array([2, 3])], GREY))


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [
        (1, 32, [2]),
        (2, 32, [2]),
        (3, 2, [3]),
        (5, 2, [2, 3]),
        (65, 32, [32, 33]),
        (64, 32, [32, 32]),
        (66, 32, [32, 32, 2]),
        (4, 1, [2, 2]),
    ],
)
def test_no_batch_has_a_single_image_and_none_is_left_out(count: int, batch: int, sizes: list[int]) -> None:
    cut = parts(np.arange(count), batch)
    assert [len(part) for part in cut] == sizes
    assert set(np.concatenate(cut)) == set(range(count))
