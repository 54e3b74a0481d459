"""Folders as people keep them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgefm.data import check_images, load_data
from edgefm.errors import ImageError, InputError

from .conftest import save


def test_class_folders_give_labels(tmp_path):
    for i in range(10):
        save(tmp_path / "set" / "well" / f"{i}.png", i)
        save(tmp_path / "set" / "sick" / "deep" / f"{i}.png", 100 + i)
    data = load_data(tmp_path / "set")
    assert data.name == "set"
    assert data.task.labels == ("sick", "well")
    assert data.names[0] == "sick/deep/0.png"
    assert data.rows == (None,) * 20
    assert data.label_names(0) == ("sick",)
    assert data.pixels(0).flat[0] == 100


def test_split_folders_around_class_folders_give_both(tmp_path):
    for n, split in enumerate(("train", "val", "test")):
        for i in range(4):
            save(tmp_path / split / "NORMAL" / f"{i}.png", n * 10 + i)
            save(tmp_path / split / "PNEUMONIA" / f"{i}.png", 100 + n * 10 + i)
    data = load_data(tmp_path)
    assert data.task.labels == ("NORMAL", "PNEUMONIA")
    assert len(data.of("train")) == 8
    assert len(data.of("val")) == len(data.of("calibrate")) == 4
    save(tmp_path / "train" / "loose.png")
    with pytest.raises(InputError, match="split folders without class folders"):
        load_data(tmp_path)


def test_a_plain_folder_has_no_labels_and_the_task_is_embedding(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", i)
    data = load_data(str(tmp_path))
    assert data.task.kind == "embedding"
    assert data.labels is None
    assert data.label_names(0) == ()
    assert len(data) == 10


def test_hidden_files_are_passed_over_and_others_are_counted(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.PNG", i)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / ".cache").mkdir()
    save(tmp_path / ".cache" / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    data = load_data(tmp_path)
    assert len(data) == 10
    assert f"1 files in {tmp_path.name} are no images and were left out (the first is notes.txt)" in data.notes


def test_dicom_files_without_a_suffix_are_images(tmp_path):
    for i in range(4):
        (tmp_path / f"IM{i:04d}").write_bytes(bytes(128) + b"DICM" + bytes([i]))
        (tmp_path / f"1.2.840.{i}").write_bytes(bytes(128) + b"DICM" + bytes([9, i]))
    (tmp_path / "README").write_text("no image")
    data = load_data(tmp_path)
    assert len(data) == 8
    assert "IM0000" in data.names


def test_images_beside_class_folders_are_refused(tmp_path):
    save(tmp_path / "loose.png")
    save(tmp_path / "a" / "1.png")
    with pytest.raises(InputError, match=r"has images beside class folders \(such as loose\.png\)"):
        load_data(tmp_path)


def test_a_single_class_folder_is_refused_with_the_likely_wish(tmp_path):
    save(tmp_path / "images" / "1.png")
    with pytest.raises(
        InputError, match=r"one class folder only, 'images'; expected at least two\. For images without labels name"
    ):
        load_data(tmp_path)


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no images"):
        load_data(tmp_path)
    with pytest.raises(InputError, match=r"there is no data at .*nowhere; expected a CSV, a folder"):
        load_data(tmp_path / "nowhere")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(InputError, match=r"a\.xlsx is no data set; expected a CSV"):
        load_data(tmp_path / "a.xlsx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_refused_and_not_passed_over(tmp_path):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "1.png").parent.chmod(0)
    with pytest.raises(InputError, match="/b cannot be read"):
        load_data(tmp_path)


def test_a_link_back_to_the_folder_does_not_loop(tmp_path):
    for i in range(5):
        save(tmp_path / "a" / f"{i}.png", i)
        save(tmp_path / "b" / f"{i}.png", 50 + i)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(load_data(tmp_path)) == 10


def test_the_order_is_that_of_names_on_every_machine(tmp_path):
    for name in ("b", "a", "c", "d", "e"):
        save(tmp_path / f"{name}.png", ord(name))
    data = load_data(tmp_path)
    assert data.names == ("a.png", "b.png", "c.png", "d.png", "e.png")
    assert [int(data.pixels(i)[0, 0]) for i in range(5)] == [ord(name) for name in "abcde"]
    assert np.array_equal(data.keys, np.arange(5))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_among_the_images_is_refused_and_never_waited_for(tmp_path):
    for value in range(6):
        save(tmp_path / f"{value}.png", value)
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    data = load_data(tmp_path)  # looks for copies among files of one length; a pipe has the length 0
    with pytest.raises(ImageError, match=r"pipe\.png is not a regular file"):
        data.sha256()
    with pytest.raises(ImageError, match=r"2 of 8 images .*pipe\.png is not a regular file"):
        check_images(data)
