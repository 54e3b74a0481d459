"""Image files by position: their bytes, their copies, and files that are none."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from edgefm.data.files import Files
from edgefm.errors import ImageError

from .conftest import save


def test_what_is_no_file_is_an_image_error_and_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    files = Files((tmp_path / "pipe.png", tmp_path, tmp_path / "gone.png", Path("nul\0.png")))
    for key, says in enumerate(("not a regular file", "not a regular file", "No such file", "null byte|embedded")):
        with pytest.raises(ImageError, match=says):
            files.digest(key)
        with pytest.raises(ImageError):
            files.pixels(key)
    assert files.copies() == {}


def test_copies_are_found_by_content_each_with_the_first_of_them(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", value) for number, value in enumerate((1, 2, 1, 3, 2, 1))]
    (tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:-1])
    os.mkfifo(tmp_path / "pipe.png")
    files = Files((*paths, tmp_path / "broken.png", tmp_path / "gone.png", tmp_path / "pipe.png"))
    assert files.copies() == {2: 0, 5: 0, 4: 1}


def test_files_of_another_length_are_not_read_to_look_for_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes(number + 1))
        paths.append(path)
    monkeypatch.setattr(Files, "digest", None)
    assert Files(tuple(paths)).copies() == {}


def test_a_digest_is_of_the_bytes_and_not_of_the_pixels_or_the_name(tmp_path: Path) -> None:
    one, same, other = (save(tmp_path / name, value) for name, value in (("a.png", 1), ("b.png", 1), ("c.png", 2)))
    padded = tmp_path / "d.png"
    padded.write_bytes(one.read_bytes() + b"\0")
    files = Files((one, same, other, padded))
    digests = [files.digest(key) for key in range(4)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    np.testing.assert_array_equal(files.pixels(0), files.pixels(3))


def test_another_process_gets_the_frame_too(tmp_path: Path) -> None:
    files = Files((save(tmp_path / "a.png", 9),), frame=0)
    again = pickle.loads(pickle.dumps(files))
    assert again == files
    assert again.pixels(0)[0, 0] == 9
    with pytest.raises(ImageError, match="no frame 4"):
        Files(files.paths, frame=4).pixels(0)
