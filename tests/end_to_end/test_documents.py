"""Every command of the documentation, run as it stands there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ..documents import blocks, commands
from .conftest import Command, draw

# Random weights on few images with random labels: what is tried are the commands, not the gates.
UNASKED = ("auc", "balanced_accuracy", "sensitivity", "specificity", "calibration_slope")
LOOSE = "flips: 1\n" + "".join(f"{name}: null\n" for name in UNASKED)
QUANTIZE = ("--max-drop", "1", "--max-flips", "1")


@pytest.fixture
def reader(copied: Command) -> Command:
    """The folder that a reader of the documents has: models.py, model.efm, runs/student, images.csv and its images."""
    files = draw(copied.folder / "pictures", 60)
    rows = "".join(f"pictures/{file.name},{'opacity' if number % 2 else 'clear'}\n" for number, file in enumerate(files))
    (copied.folder / "images.csv").write_text("file,label\n" + rows)
    shutil.copytree(copied.folder / "student", copied.folder / "runs" / "student")
    (copied.folder / "gate.yaml").write_text(LOOSE)
    return copied


def test_the_commands_of_the_readme_run(reader: Command):
    for _, *words in commands("README.md", "test"):
        reader.done(*words)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["docs/device-maker.md", "docs/researcher.md", "docs/hospital-it.md"])
def test_the_commands_of_each_guide_run(reader: Command, document):
    shutil.rmtree(reader.folder / "runs")
    for _, verb, *words in commands(document, "test"):
        rest = [word for word in words if word not in ("--max-drop", "0.005", "--max-flips", "0.01", "--gate", "gate.yaml")]
        gate = ("--gate", "gate.yaml") if "--against" in words and verb == "verify" else ()
        reader.done(verb, *rest, *(QUANTIZE if verb == "quantize" else gate))


@pytest.mark.slow
def test_the_python_of_the_readme_runs(reader: Command, monkeypatch: pytest.MonkeyPatch):
    import functools

    import edgefm
    from edgefm import api

    (block,) = (block for block in blocks("README.md") if block.language == "python")
    monkeypatch.chdir(reader.folder)
    shutil.rmtree("runs")
    Path("model.efm").unlink()
    shutil.copytree("student", "runs/teacher")
    shutil.copy("images/0.png", "image.png")
    # One epoch on few images and a gate that lets all pass: what is tried is the code, not the model.
    settings = ("distill.epochs=1", "distill.views=1", "quantize.max_drop=1", "quantize.max_flips=1")
    for verb in ("distill", "quantize"):
        monkeypatch.setattr(api, verb, functools.partial(getattr(api, verb), set=settings))
    namespace: dict[str, object] = {}
    exec(block.text.replace("phantom:opacity", "phantom:opacity?n=60&size=64"), namespace)
    assert isinstance(namespace["answer"], edgefm.Answer)


@pytest.mark.slow
def test_the_main_job_of_the_readme_runs_on_real_images(edgefm: Command, real_data: Path):
    for name, folder in (("teachers", "teachers"), ("cxr_pneumonia", "cxr_pneumonia")):
        (edgefm.folder / name).symlink_to((real_data / folder).resolve())
    (edgefm.folder / "gate.yaml").write_text(LOOSE)
    short = {
        "distill": ("--set", "distill.epochs=1", "--set", "distill.views=1"),
        "quantize": QUANTIZE,
        "verify": ("--gate", "gate.yaml"),
        "run": (),
    }
    for _, verb, *words in commands("README.md", "test on real data"):
        ended = edgefm.done(verb, *words, *short[verb])
    assert len(ended.stdout.splitlines()) == 1 + len(list((real_data / "cxr_pneumonia" / "images").rglob("*.*")))
