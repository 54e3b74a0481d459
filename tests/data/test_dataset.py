"""What a data set promises to those who use it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgefm.data import load_data
from edgefm.errors import ImageError

from .conftest import save

TABLE = "file,label,patient,site,split\n" + "".join(
    f"{i}.png,{'xy'[i % 2]},p{i},s{i % 3},{split}\n" for i, split in enumerate(["train", "train", "val", "calibrate", "test"])
)


def test_arrays_cannot_be_changed(csv):
    data = load_data(csv(TABLE))
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        data.splits[0] = "test"
    with pytest.raises(AttributeError):
        data.name = "other"


def test_pixels_of_a_bad_image_name_the_row_and_keep_the_remedy(csv):
    path = csv(TABLE)
    (path.parent / "3.png").unlink()
    with pytest.raises(ImageError, match=r"row 5 of data/labels\.csv: .*3\.png does not exist\. Check the path\."):
        load_data(path).pixels(3)


def test_taking_some_images_takes_all_that_is_known_of_them(csv):
    data = load_data(csv(TABLE)).take([4, 1])
    assert data.names == ("4.png", "1.png")
    assert data.rows == (6, 3)
    assert data.labels.tolist() == [0, 1]
    assert data.patients == ("p4", "p1")
    assert data.groups == {"site": ("s1", "s1")}
    assert data.splits.tolist() == ["test", "train"]
    assert [int(data.pixels(i)[0, 0]) for i in range(2)] == [4, 1]
    assert len(data.take(np.array([], np.int64))) == 0


def test_the_hash_is_the_same_in_another_folder(csv, tmp_path):
    first = csv(TABLE)
    shutil.copytree(first.parent, tmp_path / "elsewhere" / "data")
    assert load_data(first).sha256() == load_data(tmp_path / "elsewhere" / "data" / "labels.csv").sha256()


def test_absolute_names_do_not_enter_the_hash(csv, tmp_path):
    hashes = set()
    for folder in ("a", "b"):
        for i in range(5):
            save(tmp_path / folder / f"{i}.png", i)
        text = TABLE
        for i in range(5):
            text = text.replace(f"\n{i}.png", f"\n{tmp_path / folder / f'{i}.png'}")
        hashes.add(load_data(csv(text, images=False)).sha256())
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.png,x", "0.png,y"), ("p1,", "p9,"), ("s1,test", "s1,train"), ("0.png", "./0.png")],
    ids=["label", "patient", "split", "name"],
)
def test_the_hash_covers_names_labels_patients_and_splits(csv, old, new):
    before = load_data(csv(TABLE)).sha256()
    assert load_data(csv(TABLE.replace(old, new), images=False)).sha256() != before


def test_the_hash_covers_every_byte_of_the_files_without_decoding_them(csv):
    path = csv(TABLE)
    before = load_data(path).sha256()
    image = path.parent / "2.png"
    image.write_bytes(image.read_bytes() + b"\0")
    after = load_data(path).sha256()
    assert before != after
    image.write_text("no image at all")
    assert load_data(path).sha256() not in (before, after)
    image.unlink()
    with pytest.raises(ImageError, match=r"row 4 of .*2\.png cannot be read \(No such file"):
        load_data(path).sha256()


def test_the_hash_is_64_hexadecimal_digits_and_stays(csv):
    data = load_data(csv(TABLE))
    assert data.sha256() == data.sha256()
    assert len(data.sha256()) == 64
    assert set(data.sha256()) <= set("0123456789abcdef")
