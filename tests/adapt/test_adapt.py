"""The verb: what a run directory holds. Not what stops it (`test_refusals.py`)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from edgefm.models import load_model
from edgefm.settings import load_recipe

from .runs import METHODS, Make, Method, run, weights


@pytest.mark.parametrize("method", METHODS)
def test_a_timm_model_becomes_a_whole_run_directory(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    lines: list[str] = []
    out = run(vit, make_data(), tmp_path / "run", method, report=lines.append, licence="CC-BY-4.0")
    adapters = ["adapters"] if method == "lora" else []
    assert sorted(file.name for file in out.iterdir()) == adapters + [
        "config.json",
        "edgefm.json",
        "evaluation.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.yaml",
    ]
    teacher = load_model(out)
    assert (teacher.task.kind, teacher.task.labels, teacher.licence) == ("binary", ("bright", "dark"), "CC-BY-4.0")
    lineage = [(each.role, each.licence) for each in teacher.ancestors]
    assert lineage == [("model", "CC-BY-4.0"), ("data", "unknown")]
    found = json.loads((out / "evaluation.json").read_text())
    assert found["method"] == method
    assert found["images"] == {"train": 12, "val": 6}
    assert 0 <= found["val"]["auc"] <= 1
    assert load_recipe(out / "recipe.yaml").adapt.epochs == 2
    lines_of_metrics = (out / "metrics.jsonl").read_text().splitlines()
    assert len(lines_of_metrics) == (15 if method == "linear" else 2)
    assert any("val images" in line for line in lines)
    same = torch.equal(weights(out)["blocks.0.mlp.fc1.weight"], weights(vit)["blocks.0.mlp.fc1.weight"])
    assert same == (method == "linear")
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), teacher.module(x).logits)


def test_a_probe_answers_as_its_evaluation_says(tmp_path: Path, make_data: Make, code: str) -> None:
    from edgefm.data import load_data
    from edgefm.runtime.decide import probabilities
    from edgefm.train.images import Images
    from edgefm.train.predict import all_outputs, predict
    from edgefm.verify.metrics import task_metrics

    data = make_data(train=30, val=20)
    out = run(code, data, tmp_path / "run")
    found = json.loads((out / "evaluation.json").read_text())
    teacher, dataset = load_model(out, trust_remote_code=True), load_data(data)
    val, cpu = dataset.of("val"), torch.device("cpu")
    asked = predict(teacher.module, Images(dataset), val, teacher.preprocess, device=cpu, precision="fp32")
    logits = all_outputs(asked).logits
    assert logits is not None
    again = task_metrics(probabilities(logits.numpy(), teacher.task), dataset.labels[val], teacher.task)  # type: ignore[index]
    assert found["val"]["auc"] == again["auc"] > 0.9
    assert found["val"]["brier"] == pytest.approx(again["brier"], abs=1e-5)
    assert found["val"] == {name: value for name, value in trial(found).items() if name in found["val"]}


def trial(found: dict[str, Any]) -> dict[str, Any]:
    (chosen,) = (each for each in found["trials"] if each["C"] == found["C"])
    return dict(chosen)


def test_fine_tuning_learns_and_keeps_the_best_epoch(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = run(vit, make_data(train=40, val=20), tmp_path / "run", "full", "adapt.epochs=5")
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < history[0]["loss"]
    found = json.loads((out / "evaluation.json").read_text())
    scores = [(line["val_auc"], -line["val_loss"]) for line in history]
    assert found["best_epoch"] == 1 + scores.index(max(scores))
    assert found["val"]["auc"] == pytest.approx(history[found["best_epoch"] - 1]["val_auc"], abs=0.02)


def test_slower_layers_change_less(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = run(vit, make_data(), tmp_path / "run", "full", "adapt.layer_decay=0.1", "adapt.weight_decay=0")
    before, after = weights(vit), weights(out)
    moved = [
        float((after[name] - before[name]).abs().max())
        for name in ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight")
    ]
    assert moved[0] < moved[1] / 3 < moved[2] / 9


def test_a_classifier_for_the_same_labels_is_kept_by_fine_tuning(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data, lines = make_data(), list[str]()
    probe = run(vit, data, tmp_path / "probe")
    out = run(probe, data, tmp_path / "tuned", "full", "adapt.lr=1e-9", report=lines.append)
    assert any("with the classifier it has" in line for line in lines)
    torch.testing.assert_close(weights(out)["head.weight"], weights(probe)["head.weight"], atol=1e-6, rtol=0)
    assert [each.role for each in load_model(out).ancestors] == ["model", "model", "data", "data"]
    other = make_data(labels=("low", "high"))
    run(probe, other, tmp_path / "other", "full", report=lines.append)
    assert "with a new classifier" in next(line for line in reversed(lines) if "learn from" in line)


@pytest.mark.parametrize("method", METHODS)
def test_several_labels_at_once(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    lines: list[str] = []
    data = make_data(labels=("a|b", "c", "|", "b"))
    text = data.read_text().replace("13.png,c", "13.png,never|c")  # only in val
    data.write_text(text)
    out = run(vit, data, tmp_path / "run", method, report=lines.append)
    assert (load_model(out).task.kind, load_model(out).task.labels) == ("multilabel", ("a", "b", "c", "never"))
    assert any("'never': nothing can be learned there" in line for line in lines)
    if method == "linear":
        head = weights(out)["head.weight"]
        assert not head[3].any()
        assert head[:3].any(dim=1).all()


@pytest.mark.parametrize("method", METHODS)
def test_images_of_train_without_a_label_are_left_aside(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    lines: list[str] = []
    data = make_data()
    kept = [re.sub(r"^([2-7]\.png),\w+", r"\1,", line) for line in data.read_text().splitlines()]
    data.write_text("\n".join(kept) + "\n")
    out = run(vit, data, tmp_path / "run", method, report=lines.append)
    assert "6 images of train have no label: nothing is learned from them here" in lines
    assert json.loads((out / "evaluation.json").read_text())["images"] == {"train": 6, "val": 6}


def test_three_classes(tmp_path: Path, make_data: Make, code: str) -> None:
    out = run(code, make_data(train=24, val=12, labels=("a", "b", "c")), tmp_path / "run")
    assert load_model(out, trust_remote_code=True).task.kind == "multiclass"
    assert json.loads((out / "evaluation.json").read_text())["val"]["balanced_accuracy"] > 0.5


def test_a_window_in_the_recipe_is_the_teachers_too(tmp_path: Path, make_data: Make, vit: Path, code: str) -> None:
    for source, name in ((vit, "timm"), (code, "code")):
        out = run(source, make_data(), tmp_path / name, "linear", "preprocess.window16=[0, 4095]")
        assert load_model(out, trust_remote_code=True).preprocess.window16 == (0, 4095)


@pytest.mark.parametrize("method", METHODS)
def test_a_module_that_was_passed_stays_as_it_was(tmp_path: Path, make_data: Make, method: Method) -> None:
    module = timm.create_model("test_vit", num_classes=0).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    out = run(module, make_data(), tmp_path / "run", method)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert load_model(out).task.labels == ("bright", "dark")


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    data, lines = make_data(), list[str]()
    before = sorted(tmp_path.rglob("*"))
    run(vit, data, tmp_path / "run", method, dry_run=True, report=lines.append)
    assert sorted(tmp_path.rglob("*")) == before
    text = "\n".join(lines)
    for words in (f"{method}: ", "12 images to learn from", "6 to", "images/s", "MB", "memory: about"):
        assert words in text


def test_the_same_run_is_the_same_bytes(tmp_path: Path, make_data: Make, vit: Path) -> None:
    for method in METHODS:
        one, two = (run(vit, make_data(), tmp_path / f"{method}{number}", method) for number in (1, 2))
        files = {"model.safetensors", "edgefm.json", "config.json", "recipe.yaml", "evaluation.json"}
        assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
