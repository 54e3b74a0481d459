"""One drawn picture. Sets of them are in test_phantom.py."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.data.radiograph import SCANNERS, radiograph


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 300), (33, 31)])
@pytest.mark.parametrize("scanner", SCANNERS)
def test_every_shape_is_drawn_in_the_scanners_bits_and_range(shape: tuple[int, int], scanner: str) -> None:
    machine = SCANNERS[scanner]
    pixels = radiograph(0, 0, *shape, scanner=scanner, contrast=0.5)
    assert pixels.shape == shape
    assert pixels.dtype == (np.uint8 if machine.bits == 8 else np.uint16)
    top = 2**machine.bits - 1
    assert np.rint(machine.low * top) <= pixels.min() <= pixels.max() <= np.rint(machine.high * top)


def test_an_unknown_scanner_is_no_picture() -> None:
    with pytest.raises(KeyError):
        radiograph(0, 0, 8, 8, scanner="oak")


def test_seed_image_and_patient_each_change_the_picture_and_nothing_else_does() -> None:
    first = radiograph(0, 1, 64, 64, patient=2)
    np.random.default_rng(5).random(100)
    np.testing.assert_array_equal(radiograph(0, 1, 64, 64, patient=2), first)
    for other in (
        radiograph(1, 1, 64, 64, patient=2),
        radiograph(0, 2, 64, 64, patient=2),
        radiograph(0, 1, 64, 64, patient=3),
    ):
        assert (other != first).any()
    np.testing.assert_array_equal(radiograph(0, 1, 64, 64), radiograph(0, 1, 64, 64, patient=1))


def test_pictures_of_one_patient_are_more_alike_than_of_two() -> None:
    def smooth(image: int, patient: int) -> np.ndarray:
        return radiograph(0, image, 64, 64, patient=patient).reshape(16, 4, 16, 4).mean(axis=(1, 3)).ravel()

    same = [np.corrcoef(smooth(2 * k, k), smooth(2 * k + 1, k))[0, 1] for k in range(20)]
    other = [np.corrcoef(smooth(2 * k, k), smooth(2 * k + 1, k + 50))[0, 1] for k in range(20)]
    assert np.mean(same) > np.mean(other)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_the_spot_alone_makes_the_difference_and_lies_in_a_lung(scanner: str) -> None:
    for image in range(5):
        clear, ill = (radiograph(3, image, 96, 96, scanner=scanner, contrast=contrast).astype(float) for contrast in (0.0, 0.4))
        difference = ill - clear
        assert difference.min() >= -1  # rounding; nothing becomes darker
        y, x = np.unravel_index(difference.argmax(), difference.shape)
        assert 10 < abs(x - 48) < 42
        assert 10 < y < 80
        assert np.median(difference) < 0.1 * difference.max()


def test_the_same_picture_at_another_size_is_the_same_picture() -> None:
    small, large = radiograph(0, 4, 32, 32), radiograph(0, 4, 128, 128)
    reduced = large.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.9
