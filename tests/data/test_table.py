"""A CSV as people write it, and as they should not."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.data import load_data
from edgefm.errors import InputError
from edgefm.spec.recipe import DataRecipe

ROWS = [
    ("a", "sick", "p1", "train"),
    ("b", "well", "p2", "train"),
    ("c", "sick", "p3", "val"),
    ("d", "well", "p4", "calibrate"),
]
PLAIN = "file,label,patient,split\n" + "".join(f"{n}.png,{lab},{p},{s}\n" for n, lab, p, s in ROWS) + "e.png,sick,p5,test\n"


def test_columns_in_any_order_with_groups_become_a_data_set(csv):
    rows = ["X,train,sick,a.png,1", "Y,val,well,b.png,2", ",calibrate,well,c.png,3", "X,test,sick,d.png,4"]
    data = load_data(csv("\n".join(["site,split,label,file,patient", *rows])))
    assert data.name == "data/labels.csv"
    assert data.names == ("a.png", "b.png", "c.png", "d.png")
    assert data.rows == (2, 3, 4, 5)
    assert data.patients == ("1", "2", "3", "4")
    assert data.groups == {"site": ("X", "Y", "", "X")}
    assert data.splits.tolist() == ["train", "val", "calibrate", "test"]
    assert data.task.kind == "binary"
    assert [data.label_names(i)[0] for i in range(4)] == ["sick", "well", "well", "sick"]
    assert data.pixels(2).shape == (4, 4)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("file,label,patient,split", "File,LABEL,Patient,Split"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " , "),
        "\n" + PLAIN.replace("\n", "\n\n") + ",,,\n \n",
        '"' + PLAIN.strip().replace(",", '","').replace("\n", '"\n"') + '"',
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", ",\n"),
    ],
    ids=[
        "byte-order mark",
        "CRLF",
        "CR",
        "capitals",
        "semicolons",
        "tabs",
        "spaces",
        "blank lines",
        "quotes",
        "no last newline",
        "a comma too many",
    ],
)
def test_the_dialect_makes_no_difference(csv, text):
    data = load_data(csv(text))
    assert data.names == ("a.png", "b.png", "c.png", "d.png", "e.png")
    assert data.splits.tolist() == ["train", "train", "val", "calibrate", "test"]
    assert data.sha256() == load_data(csv(PLAIN)).sha256()


def test_rows_are_counted_as_a_spreadsheet_does(csv):
    data = load_data(csv("file,split\n\na.png,train\n\nb.png,val\nc.png,calibrate\n"))
    assert data.rows == (3, 5, 6)


def test_a_quoted_name_may_hold_commas_and_lines(csv):
    data = load_data(csv('file,label\n"a, left.png",x\nb.png,y\nc.png,x\nd.png,"y"\n', images=False))
    assert data.names[0] == "a, left.png"


def test_backslashes_of_windows_find_their_files(csv):
    data = load_data(csv("file,split\nsub\\a.png,test\n"))
    assert data.pixels(0).shape == (4, 4)


def test_names_of_columns_can_be_set(csv):
    text = PLAIN.replace("file,label,patient,split", "Image Path,Finding,MRN,Fold")
    recipe = DataRecipe(file="Image Path", label="Finding", patient="MRN", split="Fold")
    data = load_data(csv(text), recipe)
    assert data.patients is not None
    assert data.task.kind == "binary"
    assert data.groups == {}


def test_capitals_do_not_hide_a_patient_but_the_exact_name_goes_first(csv):
    torn = "File,Patient,Split\na.png,1,train\nb.png,1,test\n"
    with pytest.raises(InputError, match="patient '1' is in train"):
        load_data(csv(torn))
    data = load_data(csv(PLAIN.replace("file,label", "file,FILE").replace(",sick,", ",x,").replace(",well,", ",y,")))
    assert data.groups == {"FILE": ("x", "y", "x", "y", "x")}


def test_a_missing_file_column_names_the_columns_that_are_there(csv):
    with pytest.raises(InputError, match=r"no column 'file', only: path, label\. Name that column with --set data\.file=NAME"):
        load_data(csv("path,label\na.png,x\n"))
    with pytest.raises(InputError, match="is empty; expected a header with the column 'file', then one row per image"):
        load_data(csv(" \n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "has a header but no rows"),
        ("file,label,label\na.png,x,y\n", "has the column 'label' twice"),
        ("file,label\na.png,x\nb.png\n", "row 3 of .* has 1 cells; expected 2"),
        ("file,label\na.png,x,y\n", "row 2 of .* has 3 cells; expected 2"),
        ("file,label\na.png,x\n,y\n", "has nothing in column 'file' of row 3"),
        (
            "file,label\na.png,x\nb.png,\nc.png,\n",
            "has nothing in column 'label' of rows 3, 4; expected a label in each row or in none",
        ),
        ("file,patient\na.png,1\nb.png,\n", "has nothing in column 'patient' of row 3"),
        ("file,split\na.png,train\nb.png,\n", "has nothing in column 'split' of row 3"),
        (
            "file,split\na.png,train\nb.png,valid\n",
            "has 'valid' in column 'split' of row 3; expected train, val, calibrate, test",
        ),
        ("file,label\na.png,x\n./a.png,y\n", "rows 2 and 3 of .* both name ./a.png; expected each file once"),
        ('file,label\n"a.png,x\n', "is no valid CSV"),
    ],
)
def test_what_is_wrong_is_refused_with_its_row(csv, text, message):
    with pytest.raises(InputError, match=message):
        load_data(csv(text))


def test_bytes_that_are_no_utf_8_are_refused_with_a_remedy(csv):
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 11\)\. Save it as 'CSV UTF-8'"):
        load_data(csv("file,label\nä.png,x\n".encode("latin-1"), images=False))


def test_columns_that_are_wholly_empty_count_as_absent(csv):
    data = load_data(csv("file,label,patient,split\n" + "".join(f"{name}.png,,,\n" for name in "abcdefgh")))
    assert data.labels is None
    assert data.task.kind == "embedding"
    assert data.patients is None
    assert set(data.splits) == {"train", "val", "calibrate", "test"}


def test_bars_in_cells_make_it_multilabel_and_a_lone_bar_is_no_label(csv):
    data = load_data(
        csv("file,label,split\na.png,mass|edema,train\nb.png,|,val\nc.png, edema ,test\nd.png,edema|edema,calibrate\n")
    )
    assert data.task.kind == "multilabel"
    assert data.task.labels == ("edema", "mass")
    assert data.labels.dtype == np.uint8
    np.testing.assert_array_equal(data.labels, [[1, 1], [0, 0], [1, 0], [1, 0]])
    assert data.label_names(1) == ()


def test_split_names_may_be_capitals(csv):
    assert load_data(csv(PLAIN.replace("train", "Train"))).splits[0] == "train"


GAPS = """file,label,patient,split
a.png,sick,1,train
b.png,,2,train
c.png,well,3,val
d.png,sick,4,calibrate
e.png,well,5,test
"""


def test_images_of_train_may_go_without_a_label(csv):
    data = load_data(csv(GAPS))
    assert data.task.labels == ("sick", "well")
    assert data.labels.tolist() == [0, -1, 1, 0, 1]
    assert data.known.tolist() == [True, False, True, True, True]
    assert data.labelled("train").tolist() == [0]
    assert data.of("train").tolist() == [0, 1]
    assert data.label_names(1) == ()
    assert "1 of 5 images have no label, all of them in train" in data.notes
    assert "train has no image of 'well'" in data.notes


def test_an_image_without_a_label_is_not_one_with_none_of_the_labels(csv):
    text = GAPS.replace("well", "|")
    data = load_data(csv(text))
    assert data.task.kind == "multilabel"
    assert data.labels.tolist() == [[1], [255], [0], [1], [0]]
    assert data.known.tolist() == [True, False, True, True, True]
    assert data.sha256() != load_data(csv(text.replace("b.png,,", "b.png,|,"))).sha256()


def test_images_are_the_same_whoever_is_labelled(csv):
    full = GAPS.replace("b.png,,", "b.png,well,")
    assert load_data(csv(GAPS)).images_sha256() == load_data(csv(full)).images_sha256()
    assert load_data(csv(GAPS)).sha256() != load_data(csv(full)).sha256()
    moved = load_data(csv(full.replace("well,2,train", "well,2,test")))
    assert load_data(csv(full)).images_sha256() != moved.images_sha256()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GAPS.replace("well,3,val", ",3,val"),
            "has nothing in column 'label' of row 4; expected a label in each row or in none, train",
        ),
        (
            GAPS.replace("3,val", "3,train"),
            "row 3; expected .* with rows for train and val in column 'split', train may have gaps",
        ),
        ("file,label\na.png,x\nb.png,\nc.png,y\n", "row 3; expected .* with rows for train and val in column 'split'"),
        (
            GAPS.replace("b.png,,", "b.png,NaN,"),
            "has 'NaN' in column 'label' of row 3; expected the name of a class, or nothing where",
        ),
        (GAPS.replace("c.png,well", "c.png,nan"), "has 'nan' in column 'label' of row 4"),
        (GAPS.replace("b.png,,", "b.png,sick|null,"), r"has 'sick\|null' in column 'label'"),
        (GAPS.replace("b.png,,", "b.png,NA,"), "has 'NA' in column 'label' of row 3; expected the name of a class, or nothing"),
        (GAPS.replace("b.png,,", "b.png,null,"), "has 'null' in column 'label' of row 3"),
        (GAPS.replace("1,train", "NA,train").replace("2,train", "NA,train"), "has 'NA' in column 'patient' of rows 2, 3"),
        (GAPS.replace("1,train", "None,train"), "has 'None' in column 'patient' of row 2; expected a patient"),
        (GAPS.replace("b.png,,2", "b.png,,nan"), "has 'nan' in column 'patient' of row 3; expected a patient"),
        (GAPS.replace("sick,1,", ",1,").replace("d.png,sick", "d.png,well"), "all labels are 'well'"),
    ],
    ids=[
        "val without",
        "no val",
        "no splits",
        "NaN",
        "nan in val",
        "null among several",
        "NA of R",
        "null",
        "patients NA",
        "patient None of Python",
        "patient nan",
        "one class left",
    ],
)
def test_gaps_elsewhere_and_not_a_number_are_refused(csv, text, message):
    with pytest.raises(InputError, match=message):
        load_data(csv(text))


def test_none_is_a_class_and_that_is_said_with_its_count(csv):
    data = load_data(csv(GAPS.replace("well", "None")))
    assert data.task.labels == ("None", "sick")
    assert "'None' is taken as a class, that of 2 images; empty the cells where it means not known" in data.notes
    data = load_data(csv(GAPS.replace("c.png,well", "c.png,none|cold")))
    assert "'none' is taken as a class, that of 1 image; empty the cells where it means not known" in data.notes
    assert not any("taken as a class," in note for note in load_data(csv(GAPS)).notes)


def test_where_no_val_is_wanted_none_is_asked_for(csv):
    text = GAPS.replace("3,val", "3,train").replace("4,calibrate", "4,train")
    assert load_data(csv(text), DataRecipe(val=0)).labels.tolist() == [0, -1, 1, 0, 1]


def test_a_split_without_any_label_has_nothing_to_learn_from(csv):
    data = load_data(csv(GAPS.replace("a.png,sick", "a.png,")))
    with pytest.raises(InputError, match="has no labels in the split 'train'"):
        data.labelled("train")


@pytest.mark.slow
def test_the_chest_x_rays_load_with_their_own_splits(real_data):
    data = load_data(real_data / "cxr_pneumonia" / "labels.csv")
    assert len(data) == 5023
    assert data.task.labels == ("normal", "pneumonia")
    assert {split: len(data.of(split)) for split in ("train", "test")} == {"train": 3337, "test": 1211}
    assert len(data.of("val")) + len(data.of("calibrate")) == 475
    patients = np.array(data.patients)
    assert not set(patients[data.of("val")]) & set(patients[data.of("calibrate")])
    assert set(data.groups["subtype"]) == {"normal", "bacteria", "virus"}
    assert data.sha256() == load_data(real_data / "cxr_pneumonia" / "labels.csv").sha256()
