"""Which form of DATA a name means, and what is the same for all of them. Splits are in test_splits.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefm.data import load_data
from edgefm.data.sources import FORMS
from edgefm.errors import InputError
from edgefm.spec.recipe import DataRecipe

from .conftest import save


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "nowhere.npz", "nowhere/", "medmnist", "phantom"])
def test_a_path_to_nothing_is_answered_with_all_forms_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"there is no data at ") as caught:
        load_data(tmp_path / name)
    assert caught.value.expected == FORMS


@pytest.mark.parametrize("name", ["labels.txt", "labels.json", "image.png", "labels"])
def test_a_file_of_another_kind_is_refused_with_all_forms_there_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("file,label\na.png,1\n")
    with pytest.raises(InputError, match=r"is no data set") as caught:
        load_data(tmp_path / name)
    assert caught.value.expected == FORMS


def test_a_capital_suffix_and_tabs_are_tables_too(csv) -> None:
    text = "file\tlabel\n" + "".join(f"{number}.png\t{number % 2}\n" for number in range(40))
    path = csv(text)
    for suffix in (".CSV", ".tsv", ".Tsv"):
        other = path.rename(path.with_suffix(suffix))
        data = load_data(other)
        assert len(data) == 40
        assert data.task.labels == ("0", "1")
        other.rename(path)


def test_a_wrong_label_is_told_with_the_name_of_the_data(csv) -> None:
    path = csv("file,label\n" + "".join(f"{number}.png,same\n" for number in range(40)))
    with pytest.raises(InputError, match=r"in data/labels\.csv all labels are"):
        load_data(path)


def test_a_teachers_order_of_labels_reaches_the_task_and_the_numbers(csv) -> None:
    path = csv("file,label\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(40)))
    mine, theirs = load_data(path), load_data(path, labels=("b", "c", "a"))
    assert mine.task.labels == ("a", "b")
    assert theirs.task.labels == ("b", "c", "a")
    assert [theirs.label_names(index) for index in range(4)] == [("a",), ("b",), ("a",), ("b",)]


def test_data_without_labels_are_an_embedding_with_splits_all_the_same(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "images" / f"{number}.png", number)
    data = load_data(tmp_path / "images")
    assert (data.task.kind, data.labels, data.patients) == ("embedding", None, None)
    assert set(np.unique(data.splits)) == {"train", "val", "calibrate", "test"}
    assert not data.known.any()


def test_what_the_recipe_says_of_broken_images_is_kept_for_the_check(csv) -> None:
    path = csv("file,label\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(40)))
    assert load_data(path, DataRecipe(broken="skip")).broken == "skip"
    assert load_data(path).broken == "refuse"


def test_nothing_is_decoded_while_data_are_listed(csv, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefm.data import files

    monkeypatch.setattr(files, "decode", None)
    path = csv("file,label\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(40)))
    assert len(load_data(path)) == 40
