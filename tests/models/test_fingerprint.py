"""Whatever is read of a model changes its hash, and nothing else does; code has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from edgefm.models import timm_names
from edgefm.models.fingerprint import fingerprint


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in ({"config.json": "{}", "model.safetensors": "weights"} | files).items():
        (path / name.replace("__", ".")).write_text(text)
    return path


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "edgefm.json", "README.md", "model.safetensors", "labels.json"]
)
def test_every_file_of_a_folder_that_is_read_counts(tmp_path: Path, name: str) -> None:
    model = folder(tmp_path / "model", **{name: "{}"})
    before = fingerprint(model)
    assert before is not None
    assert fingerprint(f"local-dir:{model}") == before
    (model / name).write_text('{"other": 1}')
    assert fingerprint(model) not in (before, None)


def test_what_is_not_read_of_a_folder_does_not_count_but_its_name_does(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    before = fingerprint(model)
    for name in ("pytorch_model.bin", "model.onnx", "metrics.jsonl"):  # safetensors go before pickles
        (model / name).write_text("something")
    assert fingerprint(model) == before
    (tmp_path / "deeper").mkdir()
    assert fingerprint(model.rename(tmp_path / "deeper" / "model")) == before
    assert fingerprint((tmp_path / "deeper" / "model").rename(tmp_path / "other")) not in (before, None)


@pytest.mark.parametrize("inside", [True, False], ids=["in the run", "elsewhere"])
def test_a_classifiers_run_changes_with_the_model_that_it_stands_on(tmp_path: Path, inside: bool) -> None:
    base = folder(tmp_path / "run" / "base" if inside else tmp_path / "base")
    run = folder(tmp_path / "run", edgefm__json=json.dumps({"base": {"source": None if inside else str(base)}}))
    before = fingerprint(run)
    assert before is not None
    (base / "config.json").write_text("[]")
    assert fingerprint(run) not in (before, None)


def test_a_graph_counts_with_what_lies_beside_it(tmp_path: Path) -> None:
    graph = tmp_path / "teacher.xml"
    seen = set()
    for name in ("teacher.xml", "teacher.bin", "labels.json", "preprocess.json"):
        (tmp_path / name).write_text("something")
        seen.add(fingerprint(graph))
    assert len(seen) == 4
    (tmp_path / "other.bin").write_text("something")
    assert fingerprint(graph) in seen


@pytest.mark.parametrize("name", ["teacher.efm", "retfound.pth"])
def test_a_file_counts_with_its_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("one")
    before = fingerprint(tmp_path / name)
    assert before is not None
    (tmp_path / name).write_text("two")
    assert fingerprint(tmp_path / name) not in (before, None)


def test_a_hub_model_is_known_by_its_files_and_its_id(hub_cache: Callable[[str], Path]) -> None:
    one, other = folder(hub_cache("owner/one")), folder(hub_cache("owner/other"))
    assert (one / "config.json").read_bytes() == (other / "config.json").read_bytes()
    hashes = {fingerprint("hf-hub:owner/one"), fingerprint("hf-hub:owner/other"), fingerprint(one)}
    assert len(hashes) == 3
    assert None not in hashes


def test_a_timm_name_is_known_by_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "model.safetensors"
    monkeypatch.setattr(timm_names, "published_file", lambda name: weights)
    weights.write_text("one")
    before = fingerprint("resnet18")
    weights.write_text("two")
    assert fingerprint("resnet18") not in (before, None)


def test_code_and_what_is_no_model_have_none(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("")
    (tmp_path / "words.txt").write_text("")
    code = f"{tmp_path / 'models.py'}:teacher"
    probe = folder(tmp_path / "run", edgefm__json=json.dumps({"base": {"source": code}}))
    (tmp_path / "empty").mkdir()
    for source in (nn.Identity(), code, probe, tmp_path / "words.txt", tmp_path / "empty", "no/such/model", "no_such_model"):
        assert fingerprint(source) is None
