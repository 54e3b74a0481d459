"""Dice and surface distance by hand, on empty masks and at the image's edge, in millimetres, and as MONAI has them."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.segmentation import dice, segmentation_metrics, surface_distance

pytest.importorskip("scipy")


def square(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def surfaces(one: np.ndarray, other: np.ndarray, tolerance: float, spacing: tuple[float, ...] | None = None) -> float:
    return surface_distance(one, other, spacing=spacing or (1.0,) * one.ndim, tolerance=tolerance)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (1, 1), (1, 1, 1)], ids=str)
def test_two_empty_masks_say_nothing_and_one_is_all_wrong(shape: tuple[int, ...]) -> None:
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(surfaces(empty, empty, 9))
    assert dice(full, empty) == dice(empty, full) == 0
    assert surfaces(full, empty, 9) == surfaces(empty, full, 9) == 0
    assert dice(full, full) == surfaces(full, full, 0) == 1
    assert dice(2 * full.astype(int), full) == surfaces(2 * full.astype(int), full, 0) == 1  # any number but 0


def test_a_square_moved_by_one_by_hand() -> None:
    one, other = square((8, 8), (2, 5), (2, 5)), square((8, 8), (2, 5), (3, 6))
    assert dice(one, other) == pytest.approx(2 * 6 / 18)
    # boundaries of 8 pixels each, the ring around the middle; the two share the four in columns 3 and 4 of rows 2 and 4
    assert surfaces(one, other, 0) == pytest.approx(8 / 16)
    assert surfaces(one, other, 0.99) == pytest.approx(8 / 16)
    assert surfaces(one, other, 1) == 1


def test_distances_are_in_millimetres_along_each_axis() -> None:
    one, other = square((3, 9, 9), (1, 2), (4, 5), (4, 5)), square((3, 9, 9), (2, 3), (4, 5), (7, 8))
    away = math.hypot(5.0, 3 * 0.4)
    assert surfaces(one, other, away - 1e-6, (5.0, 0.7, 0.4)) == 0
    assert surfaces(one, other, away + 1e-6, (5.0, 0.7, 0.4)) == 1
    assert dice(one, other) == 0


def test_the_edge_of_the_image_is_a_boundary() -> None:
    one, other = np.ones((5, 5), bool), square((5, 5), (0, 5), (0, 4))
    # 16 and 14 boundary pixels; of the last column only the ends of 5 are beside the other's, 1 away; all are within 1
    assert surfaces(one, other, 1) == 1
    # shared: rows 0 and 4 of columns 0 to 3, and column 0: 11 of each
    assert surfaces(one, other, 0) == pytest.approx(22 / 30)


def test_a_hole_is_a_boundary_that_dice_hardly_sees() -> None:
    one, other = square((41, 41), (0, 41), (0, 41)), square((41, 41), (0, 41), (0, 41))
    other[20, 20] = False
    assert dice(one, other) > 0.999
    assert surfaces(one, other, 2) == pytest.approx(320 / 324)


def test_classes_and_their_mean_with_one_that_is_nowhere() -> None:
    truth = np.array([[0, 1, 1, 2], [0, 1, 1, 2], [0, 0, 0, 2]], np.uint8)
    found = np.array([[0, 1, 1, 0], [0, 1, 1, 2], [0, 0, 2, 2]], np.int64)
    names = {"anterior": 1, "posterior": 2, "never": 3}
    result = segmentation_metrics(
        found, truth, names, spacing=(1, 1), tolerance={"anterior": 0, "posterior": 0, "never": 1}
    )  # fmt: skip
    assert result["dice"] == pytest.approx(
        {"anterior": 1, "posterior": 4 / 6, "never": math.nan, "mean": (1 + 4 / 6) / 2}, nan_ok=True
    )
    assert result["surface_distance"]["posterior"] == pytest.approx(4 / 6)
    assert result["surface_distance"]["mean"] == pytest.approx((1 + 4 / 6) / 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"found": np.zeros((2, 3), int)}, "shapes"),
        ({"found": np.zeros((2, 2))}, "float64"),
        ({"spacing": (1.0,)}, "2 lengths above 0"),
        ({"spacing": (1.0, 0.0)}, "2 lengths above 0"),
        ({"tolerance": {"a": -1.0}}, "-1.0 mm"),
        ({"tolerance": {"a": math.nan}}, "nan mm"),
        ({"tolerance": {}}, "tolerances for none"),
        ({"classes": {"mean": 1}, "tolerance": {"mean": 1.0}}, "none named mean"),
    ],
)
def test_what_does_not_fit_is_an_error(options: dict[str, Any], words: str) -> None:
    masks = np.zeros((2, 2), int)
    given = {"found": masks, "truth": masks, "classes": {"a": 1}, "spacing": (1.0, 1.0), "tolerance": {"a": 1.0}, **options}
    with pytest.raises(InputError, match=words):
        segmentation_metrics(**given)


def nifti(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Labels of an uncompressed or gzipped NIfTI-1 file of whole numbers, and their spacing in mm."""
    import gzip

    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = struct.unpack_from("<8h", data, 40)
    kind, steps = struct.unpack_from("<h", data, 70)[0], struct.unpack_from("<8f", data, 76)
    start = int(struct.unpack_from("<f", data, 108)[0])
    sizes = shape[1 : 1 + shape[0]]
    dtype = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8"}[kind]
    voxels = np.frombuffer(data, dtype, int(np.prod(sizes)), start).reshape(sizes, order="F")
    return voxels.astype(np.int16), tuple(float(step) for step in steps[1 : 1 + shape[0]])


def shifted(volume: np.ndarray) -> np.ndarray:
    return np.roll(volume, 1, axis=0)


def test_a_hippocampus_against_itself_moved_by_one_voxel(real_data: Path) -> None:
    for path in sorted((real_data / "hippocampus" / "labels").iterdir())[:5]:
        truth, spacing = nifti(path)
        assert set(np.unique(truth)) == {0, 1, 2}
        names = {"anterior": 1, "posterior": 2}
        close, far = (
            segmentation_metrics(shifted(truth), truth, names, spacing=spacing, tolerance=dict.fromkeys(names, tau))
            for tau in (0.5 * spacing[0], spacing[0])
        )
        assert 0.8 < close["dice"]["mean"] < 0.97
        assert 0.2 < close["surface_distance"]["mean"] < 0.9
        assert far["surface_distance"]["mean"] == 1


def by_monai(found: np.ndarray, truth: np.ndarray, numbers: list[int], spacing: tuple[float, ...], tau: list[float]) -> Any:
    """Dice and surface Dice of MONAI, `[classes]` each."""
    import torch
    from monai.metrics import DiceMetric, SurfaceDiceMetric

    one, other = (
        torch.from_numpy(np.stack([volume == number for number in numbers])[None].astype(np.uint8)) for volume in (found, truth)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        overlap = DiceMetric(include_background=True, reduction="none")(one, other)
        surface = SurfaceDiceMetric(class_thresholds=tau, include_background=True, reduction="none")(
            one, other, spacing=list(spacing)
        )
    return overlap[0].numpy(), surface[0].numpy()


@pytest.mark.peer
def test_monai_agrees_on_blobs_in_two_and_three_dimensions_that_touch_the_edges() -> None:
    pytest.importorskip("monai")
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(0)
    for shape, spacing in (
        ((37, 29), (1.0, 1.0)),
        ((40, 51), (0.7, 2.5)),
        ((13, 17, 11), (3.0, 0.5, 1.2)),
        ((5, 40), (1.0, 0.3)),
    ):
        for tau in (0.0, 0.6, 1.0, 2.6, 7.0):
            field = ndimage.gaussian_filter(random.normal(size=shape), 2)
            other = ndimage.gaussian_filter(random.normal(size=shape), 2)
            truth = np.digitize(field, np.quantile(field, [0.5, 0.8])).astype(np.int16)
            found = np.digitize(field + 0.5 * other, np.quantile(field, [0.5, 0.8])).astype(np.int16)
            classes = {"a": 0, "b": 1, "c": 2, "none": 3}
            mine = segmentation_metrics(found, truth, classes, spacing=spacing, tolerance=dict.fromkeys(classes, tau))
            overlap, surface = by_monai(found, truth, [0, 1, 2, 3], spacing, [tau] * 4)
            assert [mine["dice"][name] for name in classes] == pytest.approx(overlap.tolist(), abs=1e-6, nan_ok=True)
            assert [mine["surface_distance"][name] for name in classes] == pytest.approx(
                surface.tolist(), abs=1e-6, nan_ok=True
            )


@pytest.mark.peer
def test_monai_agrees_on_real_hippocampi(real_data: Path) -> None:
    pytest.importorskip("monai")
    for path in sorted((real_data / "hippocampus" / "labels").iterdir())[:3]:
        truth, spacing = nifti(path)
        found = shifted(truth)
        names = {"anterior": 1, "posterior": 2}
        mine = segmentation_metrics(found, truth, names, spacing=spacing, tolerance=dict.fromkeys(names, 0.5))
        overlap, surface = by_monai(found, truth, [1, 2], spacing, [0.5, 0.5])
        assert [mine["dice"][name] for name in names] == pytest.approx(overlap.tolist(), abs=1e-6)
        assert [mine["surface_distance"][name] for name in names] == pytest.approx(surface.tolist(), abs=1e-6)
