"""Golden inputs: nobody's picture, the same everywhere, small, and what the model itself makes of them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgefm.export.golden import LARGEST_PREPARED, golden, golden_entries, pictures, reference
from edgefm.runtime.preprocess import prepare
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task
from edgefm.verify.parity import Expected

from .conftest import Build


def expected(side: int, names: tuple[str, ...] = ("a", "b")) -> list[Expected]:
    prepared = np.zeros((3, side, side), np.float32)
    outputs = {"logits": np.zeros(2, np.float32)}
    return [Expected(name=name, pixels=np.zeros((2, 2), np.uint8), prepared=prepared, outputs=outputs) for name in names]


def test_a_prepared_tensor_is_kept_for_the_first_picture_only_and_only_if_it_is_not_large() -> None:
    side = int((LARGEST_PREPARED / 12) ** 0.5)
    for size, kept in ((side, True), (side + 1, False)):
        listed, entries = golden_entries(expected(size))
        assert ("prepared" in listed[0].outputs) == kept
        assert "prepared" not in listed[1].outputs
        assert set(entries) == {each for item in listed for each in (item.pixels, *item.outputs.values())}


@pytest.mark.parametrize("window", [(0.0, 65535.0), (1000.0, 1100.0), (60000.0, 65535.0), (-500.0, 500.0)])
def test_16_bit_pictures_span_the_models_window_and_never_wrap_around(window: tuple[float, float]) -> None:
    drawn = pictures(Preprocess(window16=window))
    deep = [pixels for pixels in drawn.values() if pixels.dtype == np.uint16 and pixels.size > 100]
    assert deep
    low, high = (float(np.clip(edge, 0, 65535)) for edge in window)
    for pixels in deep:
        assert pixels.min() <= low + 0.3 * (high - low)
        assert pixels.max() >= high - 0.3 * (high - low)


def test_drawing_does_not_depend_on_what_was_drawn_before() -> None:
    first = pictures(Preprocess())
    np.random.default_rng(1).random(10)
    again = pictures(Preprocess(size=32, resize_to=32))
    assert list(first) == list(again)
    for name, pixels in first.items():
        np.testing.assert_array_equal(again[name], pixels)


def test_outputs_are_the_models_own_one_by_one_and_the_model_stays_as_it_was(build: Build) -> None:
    model = build()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    found = golden(model)
    for picture in found[:3]:
        np.testing.assert_array_equal(picture.prepared, prepare(picture.pixels, model.preprocess))
        with torch.no_grad():
            outputs = model.module(torch.from_numpy(picture.prepared[None]))
        np.testing.assert_array_equal(picture.outputs["logits"], outputs.logits[0].numpy())
        np.testing.assert_array_equal(picture.outputs["embedding"], outputs.embedding[0].numpy())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert not model.module.training


def test_an_embedding_has_no_logits_even_where_the_module_makes_some(build: Build) -> None:
    model = build()
    side = model.preprocess.size
    batch = np.zeros((2, 3, side, side), np.float32)
    assert set(reference(model, batch)) == {"logits", "embedding"}
    bare = replace(model, task=make_task("embedding"))
    assert set(reference(bare, batch)) == {"embedding"}


def test_entries_are_plain_npy_files(build: Build) -> None:
    listed, entries = golden_entries(expected(4))
    assert np.load(io.BytesIO(entries[listed[0].pixels]), allow_pickle=False).shape == (2, 2)
    assert entries == golden_entries(expected(4))[1]


def test_golden_pictures_have_the_sizes_and_depths_that_break_resizers_and_stay_small(build: Build) -> None:
    found = golden(build())
    shapes = {picture.pixels.shape[:2] for picture in found}
    assert shapes == {(224, 224), (223, 225), (100, 150), (8, 3000), (1, 1)}
    assert {picture.pixels.dtype for picture in found} == {np.dtype(np.uint8), np.dtype(np.uint16)}
    assert {picture.pixels.shape[2:] for picture in found} == {(), (3,), (4,)}
    assert max(picture.pixels.max() for picture in found) == 65535
    _, entries = golden_entries(found)
    assert sum(map(len, entries.values())) < 1_500_000
