"""The verb `export`: a bundle that every engine was held to, written once, the same bytes in every process."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edgefm
from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.export import export
from edgefm.models import LoadedModel, save_run
from edgefm.runtime.session import Session
from edgefm.spec.manifest import Ancestor
from edgefm.spec.recipe import DataRecipe, Recipe
from edgefm.spec.task import make_task

Build = Callable[..., LoadedModel]


def quiet(sentence: str) -> None:
    """Nobody reads these sentences."""


@pytest.mark.parametrize("task", [make_task("binary", ("normal", "ill")), make_task("embedding")], ids=["binary", "embedding"])
def test_the_session_answers_golden_pictures_as_the_model_does_on_both_engines(
    build: Build, tmp_path: Path, task: object
) -> None:
    model = build("test_efficientnet", task, window16=(100.0, 4095.0))
    out = export(model, tmp_path / "model.efm", report=quiet)
    with open_bundle(out) as bundle:
        assert [variant.name for variant in bundle.manifest.variants] == ["openvino-fp32", "onnx-fp32"]
        assert all(variant.parity is not None and variant.parity <= 1e-3 for variant in bundle.manifest.variants)
        for variant in bundle.manifest.variants:
            with Session(out, variant=variant.name, threads=2) as session:
                for picture in bundle.manifest.golden:
                    pixels = np.load(io.BytesIO(bytes(bundle.view(picture.pixels))))
                    embedding = np.load(io.BytesIO(bytes(bundle.view(picture.outputs["embedding"]))))
                    answer = session.predict(pixels)
                    assert np.abs(answer.embedding - embedding).max() <= 1e-3 * max(embedding.std(), 1e-6)


def test_lineage_licences_and_versions_are_in_the_bundle(build: Build, tmp_path: Path) -> None:
    teacher = Ancestor(role="teacher", name="big", licence="CC-BY-NC-ND-4.0")
    model = replace(build(), licence="unknown", ancestors=(teacher,))
    with open_bundle(export(model, tmp_path / "model.efm", report=quiet)) as bundle:
        assert [ancestor.role for ancestor in bundle.manifest.lineage] == ["model", "teacher"]
        assert {"torch", "onnx", "onnxruntime", "openvino", "numpy"} <= set(bundle.manifest.versions)
        text = bytes(bundle.view("licences/ANCESTORS.md")).decode()
        assert "big (teacher): CC-BY-NC-ND-4.0" in text
        assert "Nobody stated a licence for test_vit" in text
        assert "CC-BY-NC-ND-4.0" in bytes(bundle.view("card.md")).decode()


def test_two_processes_and_two_folders_make_the_same_bundle(root: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        out = tmp_path / name / "model.efm"
        code = (
            "from tests.export.small import build_small; from edgefm.export import export;"
            f"export(build_small('test_efficientnet'), {str(out)!r}, report=lambda s: None)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_run_directory_gives_its_recipe_to_the_bundle_so_that_data_are_cut_alike(build: Build, tmp_path: Path) -> None:
    recipe = Recipe(seed=7, data=DataRecipe(val=0.3, label="finding"))
    (tmp_path / "run").mkdir()
    save_run(tmp_path / "run", build("test_efficientnet"), recipe, ())
    with open_bundle(edgefm.export(tmp_path / "run", tmp_path / "model.efm")) as bundle:
        assert msgspec.convert(bundle.manifest.recipe, Recipe) == recipe


def test_nothing_is_written_for_a_model_that_cannot_be_exported(build: Build, tmp_path: Path) -> None:
    model = build()
    model.module.train()
    with pytest.raises(InputError, match="training mode"):
        export(model, tmp_path / "model.efm", report=quiet)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_not_called_a_bundle_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.onnx is no name for a bundle; expected one that ends in \.efm"):
        export("nowhere", tmp_path / "model.onnx", report=quiet)


def test_an_existing_bundle_is_replaced_only_with_force(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "model.efm"
    out.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        export(build(), out, report=quiet)
    assert out.read_bytes() == b"precious"


@pytest.mark.slow
def test_the_real_teacher_exports_and_keeps_to_the_model(real_data: Path, tmp_path: Path) -> None:
    out = export(real_data / "teachers" / "densenet121_cxr", tmp_path / "teacher.efm", report=quiet)
    with open_bundle(out) as bundle:
        assert bundle.manifest.task.labels == ("normal", "pneumonia")
        assert all(variant.parity < 1e-4 for variant in bundle.manifest.variants)
