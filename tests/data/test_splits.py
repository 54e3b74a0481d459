"""One patient on one side, always; shares as asked; the same cut for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefm.data import load_data
from edgefm.data.splits import cut
from edgefm.errors import InputError
from edgefm.spec.recipe import DataRecipe

from .conftest import save

SHARES = {"train": 0.7, "val": 0.075, "calibrate": 0.075, "test": 0.15}


def table(rows: list[str], header: str = "file,label,patient") -> str:
    return header + "\n" + "\n".join(rows) + "\n"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=200), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_no_patient_is_ever_in_two_splits_and_none_is_empty(images, seed):
    patients = [f"p{patient}" for patient, _ in images]
    if len(set(patients)) < 4:
        with pytest.raises(InputError, match="too few"):
            cut(patients, [label for _, label in images], SHARES, seed=seed, what="it")
        return
    splits = cut(patients, [label for _, label in images], SHARES, seed=seed, what="it")
    assert set(splits) == set(SHARES)
    for patient in set(patients):
        assert len({split for split, owner in zip(splits, patients) if owner == patient}) == 1


def test_shares_and_classes_come_out_as_asked():
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in rng.integers(0, 700, 1000)]
    strata = (rng.random(1000) < 0.2).tolist()
    splits = cut(patients, strata, SHARES, seed=3, what="it")
    for split, share in SHARES.items():
        assert np.mean(splits == split) == pytest.approx(share, abs=0.01)
        assert np.mean(np.array(strata)[splits == split]) == pytest.approx(np.mean(strata), abs=0.06)


def test_the_cut_depends_on_the_seed_only_and_not_on_the_order():
    patients = [f"p{i}" for i in range(200)]
    first = dict(zip(patients, cut(patients, [0] * 200, SHARES, seed=1, what="it")))
    again = dict(zip(patients[::-1], cut(patients[::-1], [0] * 200, SHARES, seed=1, what="it")))
    other = dict(zip(patients, cut(patients, [0] * 200, SHARES, seed=2, what="it")))
    assert first == again
    assert first != other


def test_a_patient_on_both_sides_is_refused_by_name_and_row(csv):
    rows = ["a.png,x,p1,train", "b.png,y,p2,train", "c.png,x,p1,test", "d.png,y,p2,val"]
    with pytest.raises(
        InputError, match=r"patient 'p1' is in train \(row 2\) and in test \(row 4\), and so are 1 other patients"
    ):
        load_data(csv(table(rows, "file,label,patient,split")))


def test_data_without_splits_are_cut_by_patient_and_that_is_said(csv):
    rows = [f"{i}.png,{'xy'[i % 2]},p{i // 3}" for i in range(120)]
    data = load_data(csv(table(rows)), DataRecipe(seed=5))
    counts = Counter(data.splits.tolist())
    assert counts["train"] == pytest.approx(84, abs=4)
    assert set(counts) == {"train", "val", "calibrate", "test"}
    assert data.notes[-1] == "data/labels.csv brings no splits; cut by patient with seed 5"
    owners = [{data.patients[i] for i in data.of(split)} for split in counts]
    assert sum(map(len, owners)) == len(set.union(*owners))


def test_calibrate_is_cut_from_val_and_test_stays(csv):
    rows = [f"{i}.png,{'xy'[i % 2]},p{i // 2},{split}" for i in range(40) for split in [("train", "val", "test")[i // 2 % 3]]]
    data = load_data(csv(table(rows, "file,label,patient,split")))
    before = [row.split(",")[3] for row in rows]
    assert [("val" if split == "calibrate" else split) for split in data.splits] == before
    assert abs(len(data.of("val")) - len(data.of("calibrate"))) <= 2


def test_a_given_calibrate_is_left_as_it_is(csv):
    rows = ["a.png,x,1,train", "b.png,y,2,val", "c.png,x,3,calibrate", "d.png,y,4,calibrate"]
    assert load_data(csv(table(rows, "file,label,patient,split"))).splits.tolist() == ["train", "val", "calibrate", "calibrate"]


def test_a_missing_val_is_cut_from_train_and_that_is_said(csv):
    rows = [f"{i}.png,{'xy'[i % 2]},p{i},{'test' if i < 10 else 'train'}" for i in range(60)]
    data = load_data(csv(table(rows, "file,label,patient,split")))
    assert len(data.of("test")) == 10
    assert len(data.of("train")) == pytest.approx(42, abs=2)
    assert "brings no val; cut from train with seed 0" in data.notes[-1]


def test_a_set_of_test_images_only_is_left_alone_and_asking_for_more_says_what_is_there(csv):
    data = load_data(csv("file,label,split\na.png,x,test\nb.png,y,test\n"))
    assert data.of("test").tolist() == [0, 1]
    with pytest.raises(InputError, match=r"no images in the split 'train', only test \(2\)"):
        data.of("train")


def test_shares_of_the_recipe_are_used_and_must_leave_a_train_split(csv):
    path = csv(table([f"{i}.png,{'xy'[i % 2]},p{i}" for i in range(100)]))
    data = load_data(path, DataRecipe(val=0.4, test=0.0))
    assert Counter(data.splits.tolist()) == {"train": 60, "val": 20, "calibrate": 20}
    with pytest.raises(InputError, match=r"data\.val 0\.5 and data\.test 0\.5 leave nothing for train"):
        load_data(path, DataRecipe(val=0.5, test=0.5))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_patients_are_counted(csv, count):
    rows = [f"{i}.png,{'xy'[i % 2]},p{i % count}" for i in range(8)]
    what = "1 patient" if count == 1 else f"{count} patients"
    with pytest.raises(InputError, match=rf"{what}.*too few for train, val, calibrate, test; expected at least 4"):
        load_data(csv(table(rows)))


def test_a_val_of_one_patient_cannot_give_a_calibrate(csv):
    with pytest.raises(InputError, match=r"the split val of data/labels\.csv has 1 patient, too few for val, calibrate"):
        load_data(csv("file,label,split\na.png,x,train\nb.png,y,val\n"))


def test_a_split_without_a_class_is_said(csv):
    rows = ["a.png,x,train", "b.png,y,train", "c.png,x,val", "d.png,y,val", "e.png,x,calibrate", "f.png,x,test", "g.png,y,test"]
    assert load_data(csv(table(rows, "file,label,split"))).notes[-1] == "calibrate has no image of 'y'"


def test_copies_of_a_file_count_as_one_patient(tmp_path):
    for i in range(12):
        save(tmp_path / "x" / f"{i}.png", value=i // 3)
        save(tmp_path / "y" / f"{i}.png", value=100 + i // 3)
    data = load_data(tmp_path)
    assert any("16 files are copies of another" in note for note in data.notes)
    groups = {(name[0], int(name[2:-4]) // 3): set() for name in data.names}
    for name, split in zip(data.names, data.splits):
        groups[name[0], int(name[2:-4]) // 3].add(split)
    assert all(len(splits) == 1 for splits in groups.values())


def test_copies_across_given_splits_are_said(csv, tmp_path):
    rows = "file,label,split\na.png,x,train\nb.png,y,train\nc.png,x,test\nd.png,y,test\n"
    path = csv(rows + "e.png,x,val\nf.png,y,calibrate\n", images=False)
    for value, name in enumerate(["a.png", "b.png", "c.png", "e.png", "f.png"]):
        save(path.parent / name, value)
    save(path.parent / "d.png", 1)
    assert load_data(path).notes[1] == "1 files are copies of a file in another split, such as d.png of b.png"
