"""Broken images: all of them named, none dropped in silence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edgefm.data import check_images, load_data
from edgefm.errors import ImageError
from edgefm.runtime import decode
from edgefm.spec.recipe import DataRecipe

from .conftest import save

TABLE = "file,label,split\n" + "".join(
    f"{i}.png,{'xy'[i % 2]},{split}\n" for i, split in enumerate(["train"] * 6 + ["val"] * 2 + ["calibrate"] * 2 + ["test"] * 2)
)


@pytest.fixture
def broken(csv):
    """Twelve images; 1 is text, 4 is truncated, 7 is missing, 10 is empty."""
    path = csv(TABLE)
    folder = path.parent
    (folder / "1.png").write_text("no image at all")
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(file, "PNG")
    (folder / "4.png").write_bytes(file.getvalue()[:1500])
    (folder / "7.png").unlink()
    (folder / "10.png").write_bytes(b"")
    return path


def test_every_broken_image_is_named_with_its_row_and_counted(broken):
    with pytest.raises(ImageError) as caught:
        check_images(load_data(broken))
    text = str(caught.value)
    assert text.startswith("4 of 12 images of data/labels.csv cannot be read: ")
    for row, reason in [(3, "starts with text"), (6, "truncated"), (9, "does not exist"), (12, "is empty")]:
        assert f"row {row} of data/labels.csv" in text
        assert reason in text
    assert ".." not in text.replace("...", "")
    assert text.endswith("leave them out with --set data.broken=skip.")


def test_only_the_asked_images_are_read(broken):
    data = load_data(broken)
    assert len(check_images(data, [0, 2, 3])) == 12
    with pytest.raises(ImageError, match="1 of 2 images"):
        check_images(data, np.array([0, 1]))


def test_skipping_keeps_their_names_and_reasons(broken):
    data = check_images(load_data(broken, DataRecipe(broken="skip")))
    assert len(data) == 8
    assert [(problem.name, problem.row) for problem in data.skipped] == [
        ("1.png", 3),
        ("4.png", 6),
        ("7.png", 9),
        ("10.png", 12),
    ]
    assert "row 9 of data/labels.csv: " in str(data.skipped[2])
    assert data.names == ("0.png", "2.png", "3.png", "5.png", "6.png", "8.png", "9.png", "11.png")
    assert data.rows == (2, 4, 5, 7, 8, 10, 11, 13)
    assert data.pixels(7).flat[0] == 11
    assert [data.label_names(i)[0] for i in range(8)] == ["x", "x", "y", "y", "x", "x", "y", "y"]
    assert len(data.of("test")) == 1
    assert check_images(data).skipped == data.skipped


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.png").write_text(f"no image {i}")
    with pytest.raises(ImageError, match="5 of 5 images"):
        check_images(load_data(tmp_path, DataRecipe(broken="skip")))


def test_a_thousand_broken_images_are_counted_without_a_thousand_sentences(tmp_path):
    for i in range(300):
        (tmp_path / f"{i:03d}.png").write_text(f"no image {i}")
    save(tmp_path / "good.png")
    with pytest.raises(ImageError, match="300 of 301 images") as caught:
        check_images(load_data(tmp_path))
    assert "019.png is no image" in str(caught.value)
    assert "; also 020.png, 021.png" in str(caught.value)
    assert "and 80 more" in str(caught.value)


def test_a_huge_image_is_named(csv, monkeypatch):
    data = load_data(csv(TABLE))
    monkeypatch.setattr(decode, "MAX_PIXELS", 15)
    with pytest.raises(ImageError, match=r"row 2 of .* has 4 x 4 pixels"):
        check_images(data)


@pytest.mark.parametrize(("highest", "hint"), [(200, "[0,255]"), (1000, "[0,1023]"), (4095, "[0,4095]"), (4096, "")])
def test_12_bit_values_in_16_bit_files_are_worth_a_note(tmp_path, highest, hint):
    for i in range(6):
        Image.fromarray(np.array([[i, highest]], np.uint16)).save(tmp_path / f"{i}.png")
    data = load_data(tmp_path)
    notes = check_images(data).notes[len(data.notes) :]
    assert notes == ((f"no 16-bit pixel exceeds {highest}; consider preprocess.window16={hint}",) if hint else ())


def test_a_frame_is_passed_on(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    for i in range(4):
        frames[0].save(tmp_path / f"{i}.tif", save_all=True, append_images=[frames[1], Image.new("L", (4, 4), i)])
    with pytest.raises(ImageError, match="holds 3 frames"):
        check_images(load_data(tmp_path))
    assert load_data(tmp_path, DataRecipe(frame=1)).pixels(0).flat[0] == 200
