"""A bundle as a teacher: it answers as the model that it was made of, and its nodes can be tapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgefm.bundle import open_bundle, slim_bundle
from edgefm.errors import InputError
from edgefm.export.fp32 import export
from edgefm.models import LoadedModel, build_student, list_taps, load_model
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

X = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def student() -> LoadedModel:
    task = make_task("binary", ("normal", "pneumonia"))
    return build_student("test_resnet", task=task, preprocess=Preprocess(size=160, resize_to=160), seed=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, student: LoadedModel) -> Path:
    return export(student, tmp_path_factory.mktemp("bundle") / "student.efm", report=lambda line: None)


def test_a_bundle_teaches_what_its_model_knew(bundle: Path, student: LoadedModel) -> None:
    loaded = load_model(bundle)
    with torch.no_grad():
        for ours, theirs in zip(loaded.module(X), student.module(X)):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert (loaded.kind, loaded.task, loaded.preprocess) == ("frozen", student.task, student.preprocess)
    with open_bundle(bundle) as opened:
        assert (loaded.sha256, loaded.ancestors) == (opened.id, opened.manifest.lineage)


def test_a_bundles_nodes_can_be_tapped(bundle: Path) -> None:
    taps = list_taps(bundle)
    last = [tap for tap in taps if len(tap.shape) == 4][-1]
    loaded = load_model(bundle, tap=last.name)
    logits, embedding, _ = loaded.module(X)
    assert logits is None
    assert embedding.shape == (3, last.shape[1])
    assert loaded.task.kind == "embedding"


def test_a_bundle_without_openvino_still_teaches_but_has_no_taps(bundle: Path, student: LoadedModel, tmp_path: Path) -> None:
    slim = tmp_path / "slim.efm"
    slim_bundle(bundle, ["onnx-fp32"], slim)
    with torch.no_grad():
        torch.testing.assert_close(load_model(slim).module(X).logits, student.module(X).logits, atol=1e-4, rtol=1e-3)
    with pytest.raises(InputError, match="has no openvino-fp32 variant"):
        list_taps(slim)
