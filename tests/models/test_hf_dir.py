"""transformers folders: Phikon (ViT), Phikon-v2 and RAD-DINO (Dinov2), classifiers, and their preprocessors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgefm.errors import InputError
from edgefm.models import load_model

from .conftest import randomise

TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 28},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 28, "width": 28},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.5307, 0.5307, 0.5307],
    "image_std": [0.2583, 0.2583, 0.2583],
    "image_processor_type": "BitImageProcessor",
}
X = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def write(folder: Path, model: Any, processor: dict[str, Any] | None = PROCESSOR) -> Path:
    """The folder that transformers itself writes, in the keys of the published checkpoints."""
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def phikon(**settings: Any) -> Any:
    return randomise(transformers.ViTModel(transformers.ViTConfig(image_size=28, patch_size=14, **TINY, **settings)))


def dinov2(**settings: Any) -> Any:
    return randomise(transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, patch_size=14, **TINY, **settings)))


def test_phikon_takes_the_class_token_and_leaves_the_pooler_aside(tmp_path: Path) -> None:
    model = phikon()
    folder = write(tmp_path / "phikon", model)
    assert "encoder.layer.0.attention.attention.query.weight" in load_file(folder / "model.safetensors")
    loaded = load_model(folder)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
        torch.testing.assert_close(embedding, model(X).last_hidden_state[:, 0])
    assert logits is None
    assert not loaded.module.training


def test_phikon_as_a_pickle_of_older_days_loads_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "phikon", phikon())
    state = load_file(folder / "model.safetensors")
    expected = load_model(folder).module(X).embedding
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    torch.testing.assert_close(load_model(folder).module(X).embedding, expected)


@pytest.mark.parametrize("swiglu", [False, True], ids=["rad-dino", "phikon-v2-giant-like"])
def test_dinov2_takes_the_class_token(tmp_path: Path, swiglu: bool) -> None:
    model = dinov2(use_swiglu_ffn=swiglu)
    loaded = load_model(write(tmp_path / "rad-dino", model))
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).embedding, model(X).pooler_output)
    assert loaded.preprocess.mean == (0.5307, 0.5307, 0.5307)
    assert (loaded.preprocess.size, loaded.preprocess.filter, loaded.preprocess.resize) == (28, "bicubic", "shorter")


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_with_registers", "swin"])
def test_a_classifier_gives_its_own_logits_and_what_goes_into_them(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {"id2label": {0: "normal", 1: "bacterial", 2: "viral"}}
    geometry = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    settings |= geometry if kind == "swin" else {"image_size": 28, "patch_size": 14, **TINY}
    config = transformers.CONFIG_MAPPING[kind](**settings)
    model = randomise(transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)](config))
    size = settings["image_size"]
    processor = PROCESSOR | {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    loaded = load_model(write(tmp_path / kind, model, processor))
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(x)
        torch.testing.assert_close(logits, model(x).logits)
        torch.testing.assert_close(model.classifier(embedding), logits)
    assert loaded.task.labels == ("normal", "bacterial", "viral")


def test_a_multilabel_classifier_says_so(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        image_size=28, patch_size=14, problem_type="multi_label_classification", num_labels=2, **TINY
    )
    loaded = load_model(write(tmp_path / "many", transformers.ViTForImageClassification(config)))
    assert (loaded.task.kind, loaded.task.labels) == ("multilabel", ("0", "1"))


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, fault: str) -> None:
    folder = write(tmp_path / "bad", dinov2())
    state = load_file(folder / "model.safetensors")
    key = "encoder.layer.0.norm1.weight"
    if fault == "missing":
        del state[key]
    elif fault == "unexpected":
        state["stowaway"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(3)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"1 {fault} .*{'stowaway' if fault == 'unexpected' else 'norm1.weight'}"):
        load_model(folder)


@pytest.mark.parametrize("classifies", [True, False])
def test_a_model_that_pools_in_a_way_not_known_here_is_refused(tmp_path: Path, classifies: bool) -> None:
    size: int
    model: Any
    if classifies:  # the mean over all patches of the last stage
        settings: Any = transformers.SegformerConfig(hidden_sizes=[8] * 4, depths=[1] * 4, decoder_hidden_size=8)
        size, model = 64, transformers.SegformerForImageClassification(settings)
    else:  # no pooled output at all
        size, model = (
            28,
            transformers.ViTMAEModel(transformers.ViTMAEConfig(image_size=28, patch_size=14, mask_ratio=0.0, **TINY)),
        )
    with pytest.raises(InputError, match=r"pools its features is not known here\. Give it as file\.py:function"):
        load_model(
            write(tmp_path / "other", randomise(model), PROCESSOR | {"size": {"shortest_edge": size}, "do_center_crop": False})
        )


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    loaded = load_model(write(tmp_path / "half", dinov2().half()))
    assert {value.dtype for value in loaded.module.state_dict().values()} == {torch.float32}


def test_a_model_type_without_images_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "text", dinov2())
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match=r"is a bert, which takes no images\. Give an image encoder"):
        load_model(folder)


def test_remote_code_in_the_config_is_not_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "hibou", dinov2())
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config = {"model_type": "hibou", "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"no model type 'hibou'.*Give it as file.py:function"):
        load_model(folder)


def test_a_preprocessor_of_another_size_than_the_positions_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "phikon", phikon(), PROCESSOR | {"size": {"height": 56, "width": 56}, "do_center_crop": False})
    with pytest.raises(InputError, match="does not take the 56 pixels that its preprocessor makes"):
        load_model(folder)


def test_without_a_preprocessor_the_log_says_what_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="edgefm.models"):
        loaded = load_model(write(tmp_path / "bare", dinov2(), None))
    assert "no preprocessor_config.json" in caplog.text
    assert loaded.preprocess.size == 28
