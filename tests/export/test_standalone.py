"""The standalone folder, used as a stranger would: only its files, its README's code, the plain engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from edgefm.errors import InputError
from edgefm.export import export, export_standalone, standalone
from edgefm.models import LoadedModel
from edgefm.runtime.session import Session
from edgefm.spec.task import Task, make_task

Build = Callable[..., LoadedModel]
Kind = Literal["onnx", "openvino"]
BINARY = Task(kind="binary", labels=("normal", "ill"), thresholds=(0.3,), temperature=1.7)


def quiet(sentence: str) -> None:
    """Nobody reads these sentences."""


def pictures() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {
        "grey.png": random.integers(0, 256, (231, 177), dtype=np.uint8),
        "deep.png": random.integers(0, 65536, (180, 300), dtype=np.uint16),
        "colour.png": random.integers(0, 256, (90, 333, 3), dtype=np.uint8),
        "alpha.png": random.integers(0, 256, (160, 160, 4), dtype=np.uint8),
    }


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("task", [BINARY, make_task("multilabel", ("a", "b", "c"))], ids=["binary", "multilabel"])
def test_the_readmes_code_answers_as_the_session_does(build: Build, tmp_path: Path, kind: Kind, task: Task) -> None:
    model = build("test_vit", task)
    bundle = export(model, tmp_path / "model.efm", report=quiet)
    folder = export_standalone(model, kind, tmp_path / "plain", report=quiet)
    readme = (folder / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 12
    assert ("INFERENCE_PRECISION_HINT" in readme) == (kind == "openvino")
    with Session(bundle, variant=f"{kind}-fp32", threads=2) as session:
        for name, pixels in pictures().items():
            Image.fromarray(pixels).save(folder / name)
            plain = code.replace("image.png", name)
            answer = subprocess.run([sys.executable, "-c", plain], cwd=folder, capture_output=True, text=True, check=True)
            found = eval(answer.stdout)
            expected = session.predict(folder / name).probabilities
            assert found.keys() == expected.keys()
            assert max(abs(found[label] - expected[label]) for label in expected) <= 1e-3


def test_the_readmes_code_reads_what_pillow_does_not_open_as_grey_or_rgb(build: Build, tmp_path: Path) -> None:
    model = build("test_vit", BINARY)
    bundle = export(model, tmp_path / "model.efm", report=quiet)
    folder = export_standalone(model, "onnx", tmp_path / "plain", report=quiet)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    ramp = np.add.outer(np.arange(120), 2 * np.arange(60)).astype(np.uint8)
    colour = Image.fromarray(np.dstack([ramp, ramp // 2, 255 - ramp]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).convert("1").save(folder / "bits.png")
    Image.fromarray(ramp).convert("LA").save(folder / "grey_alpha.png")
    colour.quantize(16).save(folder / "palette.png")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.save(folder / "turned.jpg", exif=exif)
    names = ["bits.png", "grey_alpha.png", "palette.png", "cmyk.jpg", "turned.jpg"]
    plain = "\n".join(code.replace("image.png", name) for name in names)
    answer = subprocess.run([sys.executable, "-c", plain], cwd=folder, capture_output=True, text=True, check=True)
    with Session(bundle, variant="onnx-fp32", threads=2) as session:
        for name, line in zip(names, answer.stdout.splitlines(), strict=True):
            expected = session.predict(folder / name).probabilities
            assert max(abs(eval(line)[label] - expected[label]) for label in expected) <= 1e-3, name


def test_an_embedding_comes_without_probabilities(build: Build, tmp_path: Path) -> None:
    folder = export_standalone(build("test_convnext", make_task("embedding")), "onnx", tmp_path / "plain", report=quiet)
    assert json.loads((folder / "labels.json").read_text()) == []
    Image.fromarray(pictures()["grey.png"]).save(folder / "image.png")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    answer = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert len(eval(answer.stdout)) == 64


def test_openvinos_own_default_precision_is_what_the_readme_warns_of(build: Build, tmp_path: Path) -> None:
    """Where the processor has bf16; elsewhere both precisions are the same."""
    openvino = pytest.importorskip("openvino")
    from edgefm.export.fp32 import graph_inputs

    folder = export_standalone(build(), "openvino", tmp_path / "plain", report=quiet)
    prepared = {}
    for hint in ("f32", "default"):
        core = openvino.Core()
        model = core.read_model(folder / "model.xml")
        patches = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
        model.add_outputs(patches.input_value(0))
        compiled = core.compile_model(model, "CPU", {} if hint == "default" else {"INFERENCE_PRECISION_HINT": hint})
        if hint == "default" and compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32:
            pytest.skip("this processor has no bf16")
        result = compiled(graph_inputs(pictures()["grey.png"]))
        prepared[hint] = result[len(model.outputs) - 1]
    off = np.abs(prepared["default"] - prepared["f32"]).max()
    assert 1e-3 < off < 1.0


def test_a_folder_that_exists_is_kept_and_a_half_one_is_never_left(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    out.mkdir()
    with pytest.raises(InputError, match="exists already"):
        export_standalone(build(), "onnx", out, report=quiet)
    with pytest.raises(InputError, match="frozen"):
        export_standalone(replace(build(), kind="frozen"), "onnx", tmp_path / "other", report=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_a_model_that_one_onnx_file_cannot_hold_is_refused_in_a_line(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "LARGEST", 1000)
    with pytest.raises(InputError, match=r"GiB of weights; expected less than 2 GiB.*Distil it"):
        export_standalone(build(), "onnx", tmp_path / "plain", report=quiet)
    assert not list(tmp_path.iterdir())
