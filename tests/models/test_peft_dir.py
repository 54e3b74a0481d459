"""An adapter's folder as a MODEL: the base it names, merged. Who writes such folders: `adapt/test_lora.py`, and peft."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.peft_format import CONFIG, WEIGHTS, library_names

from .conftest import randomise
from .probe_cases import clip_own, image, onnx, own_timm, phikon_folder, rad_dino_classifier
from .test_hf_dir import TINY, write

peft = pytest.importorskip("peft")


def names_of(source: str) -> list[str]:
    return [name for name, part in library_names(load_model(source).module).items() if type(part) is nn.Linear][:4]


def written(folder: Path, source: str, names: list[str], library: Callable[[Any], nn.Module], **more: Any) -> Any:
    """An adapter of random values as peft writes it; returns the model that it was put into."""
    loaded = load_model(source)
    wrapped = peft.get_peft_model(
        library(loaded.module), peft.LoraConfig(r=2, lora_alpha=3, target_modules=names, init_lora_weights=False, **more)
    )
    wrapped.save_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text()) | {"base_model_name_or_path": source}
    (folder / CONFIG).write_text(json.dumps(config))
    return loaded


@pytest.mark.parametrize(
    ("make", "library"),
    [(own_timm, lambda module: module.model), (phikon_folder, lambda module: module.body)],
    ids=["timm", "transformers"],
)
def test_a_model_adapted_by_peft_answers_as_there(tmp_path: Path, make: Any, library: Any) -> None:
    source = make(tmp_path / "model")
    theirs = written(tmp_path / "adapter", source, names_of(source), library)
    loaded = load_model(tmp_path / "adapter")
    x = image(loaded)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x).embedding, theirs.module(x).embedding, rtol=0, atol=1e-5)
        assert not torch.allclose(loaded.module(x).embedding, load_model(source).module(x).embedding, atol=1e-4)
    assert (loaded.name, loaded.licence) == ("adapter", load_model(source).licence)
    assert loaded.sha256 != load_model(source).sha256


def test_a_classifier_that_learned_along_is_the_models(tmp_path: Path) -> None:
    """On transformers' own classifier model, whose layers have a prefix in peft's file."""
    import transformers

    source = rad_dino_classifier(tmp_path / "model")
    model = transformers.AutoModelForImageClassification.from_pretrained(source).eval()
    names = [name for name, part in model.named_modules() if type(part) is nn.Linear and name != "classifier"][:4]
    config = peft.LoraConfig(r=2, target_modules=names, modules_to_save=["classifier"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        wrapped.base_model.model.classifier.weight.normal_()
    wrapped.save_pretrained(tmp_path / "adapter")
    loaded = load_model(tmp_path / "adapter")
    x = image(loaded)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x).logits, wrapped(pixel_values=x).logits, rtol=0, atol=1e-5)
    assert loaded.task.labels == ("0", "1")


def test_a_classifier_is_pooled_as_in_the_model_that_it_learned_in(tmp_path: Path) -> None:
    """The base on disk is a body without one, as most encoders are published."""
    import transformers

    for kind in ("Dinov2", "ViT"):
        config = getattr(transformers, f"{kind}Config")(image_size=28, patch_size=14, **TINY)
        body = write(tmp_path / kind, randomise(getattr(transformers, f"{kind}Model")(config)))
        model = getattr(transformers, f"{kind}ForImageClassification").from_pretrained(body, num_labels=3).eval()
        settings = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"], init_lora_weights=False)
        wrapped = peft.get_peft_model(model, settings)
        wrapped.save_pretrained(tmp_path / f"{kind} adapter")
        loaded = load_model(tmp_path / f"{kind} adapter")
        x = image(loaded)
        with torch.no_grad():
            torch.testing.assert_close(loaded.module(x).logits, wrapped(pixel_values=x).logits, rtol=0, atol=1e-5)
    file = tmp_path / "ViT adapter" / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(tmp_path / "Dinov2")}))
    with pytest.raises(InputError, match=r"brings a classifier of 32 features; expected 64 of its base"):
        load_model(tmp_path / "ViT adapter")
    clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(image_size=28, patch_size=14, **TINY))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(write(tmp_path / "c", clip))}))
    with pytest.raises(InputError, match=r"how a classifier on the base of .* pools is not known here"):
        load_model(tmp_path / "ViT adapter")


def test_a_layer_without_its_factors_and_a_folder_that_names_itself_are_refused(tmp_path: Path) -> None:
    source, folder = own_timm(tmp_path / "model"), tmp_path / "adapter"
    written(folder, source, ["attn.qkv"], lambda module: module.model)
    state = load_file(folder / WEIGHTS)
    save_file({key: value for key, value in state.items() if "blocks.1" not in key}, folder / WEIGHTS)
    with pytest.raises(InputError, match=r"names blocks\.1\.attn\.qkv among its target_modules, and adapter_model"):
        load_model(folder)
    (folder / CONFIG).write_text(
        json.dumps(json.loads((folder / CONFIG).read_text()) | {"base_model_name_or_path": str(folder)})
    )
    with pytest.raises(InputError, match="names itself as the model it belongs to"):
        load_model(folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"base_model_name_or_path": None},
            "does not say which model the adapter belongs to; expected base_model_name_or_path",
        ),
        ({"base_model_name_or_path": "/nowhere"}, "there is no file or folder /nowhere"),
        ({"use_dora": True}, "expected plain LoRA"),
    ],
    ids=["no base", "no such base", "no plain LoRA"],
)
def test_an_adapter_without_its_base_is_refused(tmp_path: Path, words: dict[str, Any], said: str) -> None:
    source = own_timm(tmp_path / "model")
    written(tmp_path / "adapter", source, names_of(source), lambda module: module.model)
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text()) | words
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        load_model(tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    source = own_timm(tmp_path / "model")
    written(tmp_path / "adapter", source, names_of(source), lambda module: module.model)
    for other, said in (
        (phikon_folder(tmp_path / "vit"), "has no linear layer of that name; expected names such as"),
        (clip_own(tmp_path / "clip"), r"names such as visual\.trunk\.blocks\.0"),
        (onnx(tmp_path / "graph"), "is a frozen graph"),
    ):
        config = json.loads((tmp_path / "adapter" / CONFIG).read_text()) | {"base_model_name_or_path": other}
        (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config))
        with pytest.raises(InputError, match=said):
            load_model(tmp_path / "adapter")
