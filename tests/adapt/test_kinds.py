"""A teacher made of any kind of model is a MODEL of the other verbs: it is exported and it teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgefm.adapt import adapt
from edgefm.distill import distill
from edgefm.errors import InputError
from edgefm.export.fp32 import export
from edgefm.models import load_model
from edgefm.runtime.session import Session
from edgefm.settings import load_recipe

from ..models.probe_cases import clip_mlp, onnx, phikon_folder, rad_dino_classifier, virchow
from .runs import Make

SHORT = ["adapt.epochs=1", "distill.epochs=1", "distill.views=1", "distill.batch=8"]
# A probe of the last: its features differ by a thousandth of their size only, as the gate's rounding does.
TORCH = [(make, method) for make in (phikon_folder, rad_dino_classifier, virchow) for method in ("linear", "full")]
TORCH += [(clip_mlp, "full"), (virchow, "lora")]


def teach(make: Any, folder: Path, data: Path, method: Any, **options: Any) -> Path:
    source = make(folder / "model") if make is not str else options.pop("source")
    out = folder / method
    return adapt(source, data, out, method=method, recipe=load_recipe(None, SHORT), trust_remote_code=True, **options)


@pytest.mark.parametrize(("make", "method"), TORCH, ids=lambda value: getattr(value, "__name__", value))
def test_a_torch_model_becomes_a_bundle(tmp_path: Path, make_data: Make, make: Any, method: str) -> None:
    data = make_data()
    out = teach(make, tmp_path, data, method)
    loaded = load_model(out)
    assert (loaded.kind, loaded.task.labels) == ("torch", ("bright", "dark"))
    bundle = export(out, tmp_path / "model.efm", report=lambda line: None)
    with Session(bundle) as session:
        answer = session.predict(data.parent / "3.png")
    assert set(answer.probabilities) == {"bright", "dark"}


def test_a_users_function_and_a_tapped_node_become_bundles(tmp_path: Path, make_data: Make, code: str, vit: Path) -> None:
    data = make_data()
    for source, tap in ((code, None), (str(vit), "blocks.0")):
        folder = tmp_path / str(tap)
        folder.mkdir()
        out = teach(str, folder, data, "linear", source=source, tap=tap)
        assert sorted(file.suffix for file in out.iterdir()).count(".safetensors") == 1
        export(out, folder / "model.efm", trust_remote_code=True, report=lambda line: None)
    bundle = load_model(
        teach(str, folder, make_data(labels=("low", "high")), "linear", source=folder / "model.efm", force=True)
    )
    assert (bundle.kind, bundle.task.labels) == ("frozen", ("high", "low"))


def test_a_frozen_graph_with_a_classifier_teaches_but_is_not_exported(tmp_path: Path, make_data: Make) -> None:
    data = make_data()
    out = teach(onnx, tmp_path, data, "linear", tap="features")
    teacher = load_model(out)
    assert (teacher.kind, teacher.task.labels) == ("frozen", ("bright", "dark"))
    with pytest.raises(InputError, match="is a frozen graph and cannot be exported"):
        export(out, tmp_path / "model.efm", report=lambda line: None)
    with pytest.raises(InputError, match=r"is a frozen graph, whose weights cannot learn\. Use --method linear"):
        teach(str, tmp_path, data, "full", source=tmp_path / "model" / "net.onnx")
    student = distill(out, "test_vit", data, tmp_path / "student", recipe=load_recipe(None, SHORT))
    found = json.loads((student / "evaluation.json").read_text())
    assert set(found["teacher"]) >= {"auc", "balanced_accuracy"}
    assert found["teacher"]["auc"] == json.loads((out / "evaluation.json").read_text())["val"]["auc"]


def test_a_probe_of_a_transformers_model_teaches(tmp_path: Path, make_data: Make) -> None:
    data = make_data()
    out = teach(phikon_folder, tmp_path, data, "linear")
    student = distill(out, "test_vit", data, tmp_path / "student", recipe=load_recipe(None, SHORT))
    assert load_model(student).task.labels == ("bright", "dark")
    assert [each.role for each in load_model(student).ancestors] == ["teacher", "model", "data", "data"]


def test_full_after_linear_trains_what_stands_elsewhere_and_brings_it_inside(tmp_path: Path, make_data: Make) -> None:
    data = make_data()
    probe = teach(phikon_folder, tmp_path, data, "linear")
    tuned = teach(str, tmp_path, data, "full", source=probe)
    assert json.loads((tuned / "edgefm.json").read_text())["base"]["source"] is None
    before, after = load_model(probe).module.state_dict(), load_model(tuned).module.state_dict()
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert "base.body.embeddings.cls_token" in changed
    assert "head.weight" in changed
