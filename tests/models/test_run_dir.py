"""Run directories: what a verb saves is what the next one loads, and what timm loads."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import timm
import torch
import yaml
from timm.data import resolve_data_config

from edgefm.errors import InputError
from edgefm.models import LoadedModel, build_student, load_model, save_run
from edgefm.models.contract import preprocess_from_timm
from edgefm.models.run_dir import _crop_pct
from edgefm.spec.manifest import Ancestor
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import Task

from .conftest import randomise, write_timm_folder

TASK = Task(kind="binary", labels=("normal", "pneumonia"), thresholds=(0.37,), temperature=1.5)
TEACHER = Ancestor(role="teacher", name="densenet121_cxr", licence="apache-2.0", sha256="0" * 64)
X = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def student() -> LoadedModel:
    preprocess = Preprocess(size=160, resize_to=183, window16=(0.0, 4095.0), mean=(0.4, 0.4, 0.4))
    model = build_student("test_vit", task=TASK, preprocess=preprocess, seed=1)
    randomise(model.module)
    return model


def test_a_saved_run_comes_back_exactly(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(seed=5), (TEACHER,))
    back = load_model(tmp_path)
    with torch.no_grad():
        for ours, theirs in zip(back.module(X)[:2], student.module(X)[:2]):
            assert torch.equal(ours, theirs)
    assert (back.task, back.preprocess, back.name) == (TASK, student.preprocess, "test_vit")
    assert back.ancestors == (TEACHER,)
    assert load_model(tmp_path, licence="CC0-1.0").licence == "CC0-1.0"


def test_timm_itself_loads_a_run_with_the_same_preprocessing(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(), ())
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(model(X), student.module(X).logits)
    found = resolve_data_config(model=model)
    assert tuple(found["mean"]) == student.preprocess.mean
    assert int(found["input_size"][1] / found["crop_pct"]) == 183
    assert model.pretrained_cfg["label_names"] == ["normal", "pneumonia"]


@pytest.mark.parametrize("size", [160, 224, 518])
def test_the_crop_survives_timms_rounding(size: int) -> None:
    for resize_to in range(size, 3 * size):
        crop = _crop_pct(Preprocess(size=size, resize_to=resize_to))
        assert preprocess_from_timm({"input_size": (3, size, size), "crop_pct": crop}, "run").resize_to == resize_to


def test_the_same_run_is_the_same_bytes(tmp_path: Path, student: LoadedModel) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_run(tmp_path / name, student, Recipe(), (TEACHER,))
    for file in ("config.json", "model.safetensors", "edgefm.json", "recipe.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_recipe_is_written_with_its_defaults(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(seed=5), ())
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert msgspec.convert(written, Recipe) == Recipe(seed=5)
    assert written["distill"]["temperature"] == 2.0


def test_a_pooling_of_the_table_survives_a_run(tmp_path: Path) -> None:
    stated = {"img_size": 42, "depth": 1, "embed_dim": 64, "num_heads": 4, "init_values": 1e-5, "reg_tokens": 4}
    stated |= {"mlp_ratio": 5.3125, "global_pool": "", "num_classes": 0}
    swiglu = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    model = randomise(timm.create_model("vit_huge_patch14_224", **stated, **swiglu))
    teacher = load_model(
        write_timm_folder(tmp_path / "v", "vit_huge_patch14_224", model, cfg={"input_size": [3, 42, 42]}, model_args=stated)
    )
    (tmp_path / "run").mkdir()
    save_run(tmp_path / "run", teacher, Recipe(), ())
    x = torch.rand(1, 3, 42, 42)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "run").module(x).embedding, teacher.module(x).embedding)


def test_a_broken_or_newer_card_is_refused(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(), ())
    card = json.loads((tmp_path / "edgefm.json").read_text())
    for broken in ("", "{", json.dumps(card | {"zeal": 1}), json.dumps(card | {"task": {"kind": "binary"}})):
        (tmp_path / "edgefm.json").write_text(broken)
        with pytest.raises(InputError, match=r"edgefm.json cannot be read"):
            load_model(tmp_path)
    (tmp_path / "edgefm.json").write_text(json.dumps(card | {"format": 2}))
    with pytest.raises(InputError, match=r"cannot be read \(Invalid enum value 2.*format.*Update EdgeFM"):
        load_model(tmp_path)


def test_a_card_with_other_classes_than_the_weights_is_refused(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(), ())
    card = json.loads((tmp_path / "edgefm.json").read_text())
    card["task"] = {"kind": "multiclass", "labels": ["a", "b", "c"]}
    (tmp_path / "edgefm.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="names 3 labels for 2 classes"):
        load_model(tmp_path)


def test_a_run_that_was_cut_short_is_refused(tmp_path: Path, student: LoadedModel) -> None:
    save_run(tmp_path, student, Recipe(), ())
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


def test_only_timm_models_make_runs(tmp_path: Path) -> None:
    module = torch.nn.Flatten()
    module.preprocess = Preprocess()  # type: ignore[assignment]
    with pytest.raises(InputError, match="Flatten is not a timm model"):
        save_run(tmp_path, load_model(module), Recipe(), ())
