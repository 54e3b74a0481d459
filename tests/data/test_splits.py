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


def deal(patients, strata=None, *, many, seed=0, part=""):
    return cut(patients, strata or [0] * len(patients), SHARES, seed=seed, many=many, what="it", part=part)


def moved(before, after):
    """How many of the patients of both cuts are in another split."""
    return sum(before[patient] != after[patient] for patient in before.keys() & after.keys())


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=200), st.integers(0, 5), st.booleans())
@settings(deadline=None, max_examples=60)
def test_no_patient_is_ever_in_two_splits_and_none_is_empty(images, seed, many):
    patients = [f"p{patient}" for patient, _ in images]
    if len(set(patients)) < 4:
        with pytest.raises(InputError, match="too few"):
            deal(patients, [label for _, label in images], seed=seed, many=many)
        return
    splits = deal(patients, [label for _, label in images], seed=seed, many=many)
    assert set(splits) == set(SHARES)
    for patient in set(patients):
        assert len({split for split, owner in zip(splits, patients) if owner == patient}) == 1


def test_shares_of_few_come_out_by_image_and_in_each_class():
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in rng.integers(0, 250, 400)]
    sick = {patient: rng.random() < 0.2 for patient in set(patients)}
    strata = np.array([sick[patient] for patient in patients])
    splits = deal(patients, strata.tolist(), seed=3, many=False)
    for split, share in SHARES.items():
        for chosen in (strata, ~strata):
            assert np.mean(splits[chosen] == split) == pytest.approx(share, abs=0.04)


def test_shares_of_many_come_out_by_patient():
    patients = [f"p{i}" for i in range(20_000)]
    counts = Counter(deal(patients, many=True).tolist())
    for split, share in SHARES.items():
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)  # four standard errors of chance


def test_classes_of_one_patient_each_do_not_all_fall_into_train():
    counts = Counter(deal([f"p{i}" for i in range(290)], [(f"finding {i}",) for i in range(290)], many=False).tolist())
    for split, share in SHARES.items():
        assert counts[split] / 290 == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("many", [False, True])
def test_the_cut_depends_on_the_seed_and_not_on_the_order(many):
    patients = [f"p{i}" for i in range(200)]
    first = dict(zip(patients, deal(patients, seed=1, many=many)))
    again = dict(zip(patients[::-1], deal(patients[::-1], seed=1, many=many)))
    other = dict(zip(patients, deal(patients, seed=2, many=many)))
    assert first == again
    assert moved(first, other) > 50


def test_of_many_patients_none_moves_whoever_else_is_there_and_whatever_is_found():
    patients = [f"p{i}" for i in range(400)]
    before = dict(zip(patients, deal(patients, many=True)))
    assert moved(before, dict(zip(patients, deal(patients, [i % 7 for i in range(400)], many=True)))) == 0
    fewer = [patient for i, patient in enumerate(patients) if i % 4]
    assert moved(before, dict(zip(fewer, deal(fewer, many=True)))) == 0
    more = patients + [f"q{i}" for i in range(100)] + ["p0"] * 50
    assert moved(before, dict(zip(more, deal(more, many=True)))) == 0


def test_of_few_patients_one_that_goes_moves_at_most_one_at_each_border():
    patients, strata = [f"p{i}" for i in range(200)], [i % 2 for i in range(200)]
    before = dict(zip(patients, deal(patients, strata, many=False)))
    counts = []
    for gone in range(0, 200, 7):
        rest = [i for i in range(200) if i != gone]
        names = [patients[i] for i in rest]
        counts.append(moved(before, dict(zip(names, deal(names, [strata[i] for i in rest], many=False)))))
    assert max(counts) <= 3
    assert np.mean(counts) < 2


def test_of_few_patients_a_corrected_label_moves_at_most_one_at_each_border_of_both_classes():
    patients, strata = [f"p{i}" for i in range(200)], [i % 2 for i in range(200)]
    before = dict(zip(patients, deal(patients, strata, many=False)))
    counts = []
    for corrected in range(0, 200, 7):
        other = [1 - label if i == corrected else label for i, label in enumerate(strata)]
        counts.append(moved(before, dict(zip(patients, deal(patients, other, many=False)))))
    assert max(counts) <= 7
    assert np.mean(counts) < 3


def test_patients_of_two_classes_stay_where_they_are_when_the_rarer_class_becomes_the_other():
    patients = [f"p{i // 2}" for i in range(202)]
    strata = ["a" if i * 37 % 202 < 99 else "b" for i in range(202)]
    before = dict(zip(patients, deal(patients, strata, many=False)))
    for _ in range(5):
        strata[strata.index("b")] = "a"
    assert strata.count("a") == 104
    assert moved(before, dict(zip(patients, deal(patients, strata, many=False)))) < 20


def test_what_a_cut_gave_to_val_is_not_cut_again_by_the_same_numbers():
    patients = [f"p{i}" for i in range(2000)]
    splits = deal(patients, many=True)
    val = [patient for patient, split in zip(patients, splits) if split in ("val", "calibrate")]
    again = cut(val, [0] * len(val), {"val": 0.5, "calibrate": 0.5}, seed=0, many=True, what="it", part="val")
    assert 0.35 < np.mean(again == "val") < 0.65


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
    counts = Counter(data.splits.tolist())
    assert set(counts) == {"train", "val", "calibrate"}
    for split, count in {"train": 60, "val": 20, "calibrate": 20}.items():
        assert counts[split] == pytest.approx(count, abs=2)  # each of two classes is rounded by itself
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


def by_name(path):
    data = load_data(path)
    return dict(zip(data.names, data.splits.tolist()))


@pytest.mark.parametrize("header", ["file,label,patient", "file,label"])
def test_a_table_of_many_patients_is_cut_alike_while_its_labels_are_corrected_and_its_rows_change(csv, header):
    def write(rows):
        return csv(table([row if "patient" in header else row.rpartition(",")[0] for row in rows], header), images=False)

    rows = [f"{i}.png,{'xyz'[i % 3]},p{i}" for i in range(330)]
    before = by_name(write(rows))
    assert moved(before, by_name(write([row.replace("z", "x") if i % 2 else row for i, row in enumerate(rows)]))) == 0
    assert moved(before, by_name(write(rows[::-1][:301]))) == 0


@pytest.mark.parametrize("missing", ["calibrate", "val"])
def test_what_is_cut_from_a_split_of_many_patients_stays_too_however_few_that_split_has(csv, missing):
    rows = [f"{i}.png,{'xy'[i % 2]},p{i},{'val' if missing == 'calibrate' and i < 60 else 'train'}" for i in range(330)]
    before = by_name(csv(table(rows, "file,label,patient,split"), images=False))
    assert set(before.values()) == {"train", "val", "calibrate"}
    other = [row.replace("x", "y") if i % 10 == 0 else row for i, row in enumerate(rows) if i % 20 != 1]
    assert moved(before, by_name(csv(table(other, "file,label,patient,split"), images=False))) == 0


def test_a_file_that_moves_to_another_class_folder_stays_in_its_split(tmp_path):
    for i in range(310):
        path = tmp_path / "xy"[i % 2] / "site" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"image {i}".encode())
    before = {name[2:]: split for name, split in by_name(tmp_path).items()}
    for i in range(0, 40, 2):
        (tmp_path / "x" / "site" / f"{i}.png").rename(tmp_path / "y" / "site" / f"{i}.png")
    after = {name[2:]: split for name, split in by_name(tmp_path).items()}
    assert len(after) == 310
    assert moved(before, after) == 0


def test_copies_stay_in_their_split_in_whatever_order_they_are_listed(csv):
    names = [f"{i}.png" for i in range(310)]
    path = csv("file\n" + "\n".join(names) + "\n", images=False)
    for i, name in enumerate(names):
        (path.parent / name).write_bytes(f"image {i % 305}".encode())
    before = by_name(path)
    assert moved(before, by_name(csv("file\n" + "\n".join(names[::-1]) + "\n", images=False))) == 0
    assert all(before[f"{i}.png"] == before[f"{i + 305}.png"] for i in range(5))
