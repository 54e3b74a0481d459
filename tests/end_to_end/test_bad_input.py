"""What users get wrong, through the installed command: exit code 2, one line, a remedy, nothing written."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from .conftest import DATA, Command, draw

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format1.efm"
TEACHER = ("-t", "models.py:teacher", "--trust-remote-code")


def refused(edgefm: Command, *words: object) -> str:
    """The one line of a refusal; holds it to exit code 2 and to leaving nothing behind."""
    before = {path for path in edgefm.folder.rglob("*") if "__pycache__" not in path.parts}
    ended = edgefm(*words)
    assert ended.returncode == 2, ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("edgefm: ")
    assert "Traceback" not in ended.stderr
    left = {path for path in edgefm.folder.rglob("*") if "__pycache__" not in path.parts} - before
    assert not {path.name for path in left if ".partial" not in str(path)}
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("distill", "-t", "nowhere/teacher", "-d", DATA, "-o", "out"), "nowhere/teacher"),
        (("distill", *TEACHER, "-d", "nowhere.csv", "-o", "out"), "there is no data at nowhere.csv"),
        (("quantize", "nowhere/run", "-d", DATA, "-o", "x.efm"), "nowhere/run"),
        (("export", "nowhere/run", "-o", "x.efm"), "nowhere/run"),
        (("run", "nowhere.efm", "models.py"), "nowhere.efm does not exist"),
        (("run", FIXTURE, "nowhere.png"), "nowhere.png does not exist"),
        (("inspect", "nowhere.efm"), "nowhere.efm does not exist"),
        (("slim", "nowhere.efm", "--keep", "onnx-fp32", "-o", "x.efm"), "nowhere.efm does not exist"),
        (("quickstart", "--data", "nowhere.csv", "-o", "out"), "there is no data at nowhere.csv"),
        (("distill", *TEACHER, "-d", DATA, "-o", "out", "--recipe", "nowhere.yaml"), "nowhere.yaml cannot be read"),
    ],
)
def test_a_wrong_path_is_named(edgefm, words, expected):
    assert expected in refused(edgefm, *words)


def test_an_empty_folder_is_named_as_data_as_images_and_as_model(edgefm):
    (edgefm.folder / "empty").mkdir()
    assert "empty has no images" in refused(edgefm, "distill", *TEACHER, "-d", "empty", "-o", "out")
    assert "empty" in refused(edgefm, "distill", "-t", "empty", "-d", DATA, "-o", "out")
    assert "empty" in refused(edgefm, "run", FIXTURE, "empty")


def test_a_csv_without_a_file_column_says_which_columns_it_has(edgefm):
    (edgefm.folder / "data.csv").write_text("image,label\na.png,1\n")
    line = refused(edgefm, "distill", *TEACHER, "-d", "data.csv", "-o", "out")
    for words in ("data.csv", "file", "image"):
        assert words in line


def test_a_broken_image_is_named_with_its_row_and_can_be_skipped(edgefm):
    files = draw(edgefm.folder / "images", 40)
    files[3].write_bytes(b"\x89PNG\r\n\x1a\n cut")
    rows = "".join(f"images/{file.name},{number % 2}\n" for number, file in enumerate(files))
    (edgefm.folder / "data.csv").write_text("file,label\n" + rows)
    words = ("distill", *TEACHER, "-s", "test_efficientnet", "-d", "data.csv", "-o", "out", "--set", "distill.epochs=1")
    line = refused(edgefm, *words)
    for word in ("1 of 40", "3.png", "row 5", "data.broken=skip"):
        assert word in line


def test_an_unknown_timm_name_is_answered_with_the_nearest_names(edgefm):
    line = refused(edgefm, "distill", *TEACHER, "-s", "mobilenetv4_conv_smal", "-d", DATA, "-o", "out")
    assert "mobilenetv4_conv_small" in line
    assert "resnet50" in refused(edgefm, "export", "resnet5O", "-o", "x.efm")


class Payload:
    """What a hostile checkpoint holds."""

    def __reduce__(self):
        return (Path.write_text, (Path("stolen.txt"), "code ran"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not(edgefm, name):
    folder = edgefm.folder / "teacher"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 2}))
    (folder / name).write_bytes(pickle.dumps({"weights": Payload()}))
    refused(edgefm, "export", folder, "-o", "x.efm")
    refused(edgefm, "export", folder / name, "-o", "x.efm")
    assert not (edgefm.folder / "stolen.txt").exists()


def test_a_function_in_a_file_is_not_run_without_being_trusted(edgefm):
    line = refused(edgefm, "export", "models.py:teacher", "-o", "x.efm")
    assert "--trust-remote-code" in line


def test_a_model_that_stays_in_training_mode_is_not_exported(edgefm):
    line = refused(edgefm, "export", "models.py:training", "--trust-remote-code", "-o", "x.efm")
    assert "training mode" in line
    assert "model.eval()" in line


def test_a_bundle_of_a_newer_format_names_the_version_it_needs(edgefm):
    bundle = FIXTURE.read_bytes().replace(b'"format":1', b'"format":2')
    (edgefm.folder / "newer.efm").write_bytes(bundle)
    slim = ("slim", "newer.efm", "--keep", "a", "-o", "b.efm")
    for words in (("run", "newer.efm", "models.py"), ("inspect", "newer.efm"), slim):
        line = refused(edgefm, *words)
        assert "newer.efm" in line


@pytest.mark.parametrize(
    "content",
    [b"", b"not a bundle", FIXTURE.read_bytes()[:-1], FIXTURE.read_bytes()[:1000], FIXTURE.read_bytes() + b"\0"],
    ids=["empty", "text", "cut by a byte", "cut", "a byte longer"],
)
def test_a_damaged_bundle_is_refused_by_every_verb_that_reads_one(edgefm, content):
    (edgefm.folder / "bad.efm").write_bytes(content)
    assert "bad.efm" in refused(edgefm, "run", "bad.efm", "models.py")
    assert "bad.efm" in refused(edgefm, "inspect", "bad.efm")
    assert "bad.efm" in refused(edgefm, "slim", "bad.efm", "--keep", "onnx-fp32", "-o", "x.efm")


def test_a_zip_that_is_no_bundle_is_refused(edgefm):
    with zipfile.ZipFile(edgefm.folder / "other.efm", "w") as archive:
        archive.writestr("manifest.json", "{}")
    assert "other.efm" in refused(edgefm, "inspect", "other.efm")


def test_an_unknown_variant_is_answered_with_those_there_are(edgefm):
    line = refused(edgefm, "slim", FIXTURE, "--keep", "native-int8", "-o", "x.efm")
    assert "onnx-fp32" in line


def test_labels_that_the_teacher_does_not_know_are_named(edgefm):
    files = draw(edgefm.folder / "images", 40)
    rows = "".join(f"images/{file.name},{'cat' if number % 2 else 'dog'}\n" for number, file in enumerate(files))
    (edgefm.folder / "data.csv").write_text("file,label\n" + rows)
    line = refused(edgefm, "distill", *TEACHER, "-d", "data.csv", "-o", "out")
    for words in ("cat", "opacity"):
        assert words in line


def test_a_recipe_that_is_wrong_is_named_before_anything_is_loaded(edgefm):
    line = refused(edgefm, "distill", *TEACHER, "-d", DATA, "-o", "out", "--set", "distill.epoch=3")
    assert "distill.epochs" in line


def test_a_lying_size_in_an_image_does_not_take_the_memory(copied):
    header = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + struct.pack(">IIBBBBB", 60000, 60000, 16, 2, 0, 0, 0)
        + b"\0" * 4
    )
    (copied.folder / "images" / "huge.png").write_bytes(header)
    ended = copied.done("run", "model.efm", "images/huge.png", "--json", code=2)
    assert "huge.png" in json.loads(ended.stdout)["error"]
