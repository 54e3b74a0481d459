"""Calibration images are real ones of the `calibrate` split, counted, and the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgefm.data import Dataset, load_data
from edgefm.errors import InputError
from edgefm.quantize.calibrate import FEWEST, choose, describe
from edgefm.runtime.preprocess import Preprocessor
from edgefm.spec.preprocess import Preprocess

from .conftest import DATA

PREPARE = Preprocessor(Preprocess(size=32, resize_to=32))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_data(DATA)


def test_only_images_of_the_split_are_taken_each_once(dataset: Dataset) -> None:
    for count in (1, 5, 1000):
        chosen = choose(dataset, PREPARE, count, seed=0)
        assert set(dataset.splits[chosen.indexes]) == {"calibrate"}
        assert len(chosen) == len(set(chosen.indexes)) == min(count, len(dataset.of("calibrate")))


def test_the_choice_depends_on_the_seed_alone(dataset: Dataset) -> None:
    one, again, other = (choose(dataset, PREPARE, 5, seed=seed).indexes.tolist() for seed in (1, 1, 2))
    assert one == again == sorted(one)
    assert one != other


def test_the_tensors_are_the_runtimes_own_of_those_images(dataset: Dataset) -> None:
    chosen = choose(dataset, PREPARE, 3, seed=0)
    for _ in range(2):  # NNCF goes through them more than once
        tensors = list(chosen)
        assert [tensor.shape for tensor in tensors] == [(1, 3, 32, 32)] * 3
        for index, tensor in zip(chosen.indexes, tensors):
            assert np.array_equal(tensor[0], PREPARE(dataset.pixels(int(index))))


def test_an_empty_split_is_refused(dataset: Dataset) -> None:
    empty = dataclasses.replace(dataset, splits=np.where(dataset.splits == "calibrate", "val", dataset.splits))
    with pytest.raises(InputError, match="no images in the split 'calibrate'"):
        choose(empty, PREPARE, 5, seed=0)


def test_the_count_is_said_and_so_is_a_shortage(dataset: Dataset) -> None:
    all_in_it = dataclasses.replace(dataset, splits=np.full(len(dataset), "calibrate"))
    count = len(all_in_it)
    assert count >= FEWEST
    said = f"calibration: {count} images of the 'calibrate' split of {dataset.name}"
    assert describe(choose(all_in_it, PREPARE, count, seed=0), count) == said
    assert describe(choose(all_in_it, PREPARE, 500, seed=0), 500) == f"{said}; 500 were asked for, the split has no more"


@pytest.mark.parametrize("count", [1, 3, FEWEST - 1, FEWEST])
def test_so_few_images_that_chance_decides_are_told(dataset: Dataset, count: int) -> None:
    all_in_it = dataclasses.replace(dataset, splits=np.full(len(dataset), "calibrate"))
    said = describe(choose(all_in_it, PREPARE, count, seed=0), count)
    assert ("only the gate can tell" in said) == (count < FEWEST)


def test_some_of_the_images_are_spread_over_all_of_them(dataset: Dataset) -> None:
    chosen = choose(dataset, PREPARE, 9, seed=0)
    assert chosen.spread(100).indexes.tolist() == chosen.spread(9).indexes.tolist() == chosen.indexes.tolist()
    assert chosen.spread(3).indexes.tolist() == chosen.indexes[[0, 4, 8]].tolist()
    assert len(list(chosen.spread(1))) == 1
