"""Files and folders to images: order, what counts as an image, empty and missing places."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm.errors import InputError
from edgefm.runtime.run import find_images, run
from edgefm.runtime.session import Session

from .conftest import MakeBundle


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """a.PNG, b.png, c.txt, .hidden.png, 00017 (DICOM), notes (text), scan.3 (DICOM), z/a.jpg, b/x/deep.tif, .git/no.png"""
    for name in ("a.PNG", "b.png", ".hidden.png", "z/a.jpg", "b/x/deep.tif", ".git/no.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / name)
    for name in ("00017", "scan.3"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    for name in ("c.txt", "notes", "4"):
        (tmp_path / name).write_text("text")
    return tmp_path


def test_a_folder_stands_for_its_images_in_a_stable_order(tree: Path) -> None:
    names = [str(path.relative_to(tree)) for path in find_images([tree])]
    assert names == ["00017", "a.PNG", "b.png", "scan.3", "b/x/deep.tif", "z/a.jpg"]


def test_paths_keep_their_order_and_named_files_are_never_judged_by_name(tree: Path) -> None:
    found = find_images([tree / "z", str(tree / "c.txt"), tree / "gone.png", tree / ".hidden.png"])
    assert [path.name for path in found] == ["a.jpg", "c.txt", "gone.png", ".hidden.png"]


def test_a_link_back_up_ends(tree: Path) -> None:
    os.symlink(tree, tree / "z" / "up")
    assert len(find_images([tree])) == 6


def test_empty_folders_and_wrong_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"folder .*empty has no images; expected .*\.png"):
        find_images([tmp_path / "a.png", tmp_path / "empty"])
    with pytest.raises(InputError, match=r"gone does not exist\. Check the path"):
        find_images([tmp_path / "gone"])
    with pytest.raises(InputError, match=r"gone does not exist nor do the 2 other paths"):
        find_images([tmp_path / "gone", "away", "lost"])
    with pytest.raises(InputError, match="no image was named"):
        find_images([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tree: Path) -> None:
    (tree / "z").chmod(0)
    try:
        with pytest.raises(InputError, match=r"z cannot be read \(Permission denied\)"):
            find_images([tree])
    finally:
        (tree / "z").chmod(0o700)


def test_one_answer_per_image_and_broken_ones_in_their_place(make_bundle: MakeBundle, tree: Path) -> None:
    (tree / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with Session(make_bundle(), variant="onnx-fp32") as session:
        answers = list(run(session, [tree / "b", tree / "z", tree / "gone.png"]))
    assert [Path(answer.source).name for answer in answers] == ["broken.png", "deep.tif", "a.jpg", "gone.png"]
    assert [answer.error is None for answer in answers] == [False, True, True, False]


def test_nothing_to_answer_is_said_before_the_first_answer_is_asked_for(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with Session(make_bundle(), variant="onnx-fp32") as session, pytest.raises(InputError):
        run(session, [tmp_path])


def test_the_frame_is_passed_on(make_bundle: MakeBundle, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((9, 9), value, np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with Session(make_bundle(), variant="onnx-fp32") as session:
        (unstated,) = run(session, [tmp_path])
        first, second, third = (next(run(session, [tmp_path], frame=frame)) for frame in (0, 1, 2))
        assert session.predict(tmp_path / "two.tif", frame=1).probabilities == second.probabilities
    assert "2 frames" in str(unstated.error)
    assert first.probabilities != second.probabilities
    assert "no frame 2" in str(third.error)
