"""RETFound's checkpoints: as its authors publish them, fine-tuned, and as a timm folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import timm
import torch

from edgefm.errors import InputError
from edgefm.models import load_model

from .conftest import randomise, write_timm_folder

GEOMETRY = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 1}
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def official(tmp_path: Path, *, classes: int | None = None) -> Path:
    """The file that the MAE code's `save_model` writes: encoder and decoder, optimizer, and the command line as a Namespace."""
    model = randomise(timm.create_model("vit_large_patch16_224", num_classes=classes or 0, **GEOMETRY))
    state = dict(model.state_dict())
    if classes is None:
        state |= {
            "mask_token": torch.rand(1, 1, 8),
            "decoder_embed.weight": torch.rand(8, 64),
            "decoder_embed.bias": torch.rand(8),
        }
        state |= {"decoder_blocks.0.norm1.weight": torch.rand(8), "decoder_pos_embed": torch.rand(1, 5, 8)}
    else:
        state |= {"fc_norm.weight": state.pop("norm.weight"), "fc_norm.bias": state.pop("norm.bias")}
    file = tmp_path / "RETFound_cfp_weights.pth"
    torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 799, "args": argparse.Namespace(lr=1e-3)}, file)
    return file


def patches_mean(state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of the last block's patch tokens, before any norm, as RETFound's `models_vit.py` computes it."""
    model = timm.create_model("vit_large_patch16_224", num_classes=0, **GEOMETRY).eval()
    keys = model.state_dict().keys()
    model.load_state_dict({key: state.get(key, torch.ones(64)) for key in keys})
    model.norm = torch.nn.Identity()
    with torch.no_grad():
        return model.forward_features(X)[:, 1:].mean(dim=1)


def test_the_official_file_loads_alone_with_a_fresh_fc_norm(tmp_path: Path) -> None:
    file = official(tmp_path)
    loaded = load_model(file, licence="CC-BY-NC-4.0")
    state = torch.load(file, weights_only=False)["model"]
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
    assert logits is None
    torch.testing.assert_close(embedding, torch.nn.functional.layer_norm(patches_mean(state), (64,), eps=1e-6))
    assert loaded.licence == "CC-BY-NC-4.0"
    assert (loaded.preprocess.size, loaded.preprocess.resize_to) == (32, 36)


def test_a_folder_with_the_official_file_and_nothing_else_loads(tmp_path: Path) -> None:
    official(tmp_path)
    assert load_model(tmp_path).module(X).embedding.shape == (2, 64)


def test_a_fine_tuned_file_keeps_its_classes(tmp_path: Path) -> None:
    file = official(tmp_path, classes=5)
    loaded = load_model(file)
    state = torch.load(file, weights_only=False)["model"]
    normed = torch.nn.functional.layer_norm(
        patches_mean(state), (64,), state["fc_norm.weight"], state["fc_norm.bias"], eps=1e-6
    )
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
    torch.testing.assert_close(embedding, normed)
    torch.testing.assert_close(logits, normed @ state["head.weight"].T + state["head.bias"])
    assert loaded.task.kind == "multiclass"


def test_the_timm_folder_gives_the_same_features_as_the_file(tmp_path: Path) -> None:
    model = randomise(timm.create_model("vit_large_patch16_224", num_classes=0, global_pool="avg", **GEOMETRY))
    folder = write_timm_folder(tmp_path / "timm", "vit_large_patch16_224", model, global_pool="avg", model_args=GEOMETRY)
    file = tmp_path / "alone.pth"
    torch.save({"model": model.state_dict()}, file)
    with torch.no_grad():
        expected = model(X)
        torch.testing.assert_close(load_model(folder).module(X).embedding, expected)
        torch.testing.assert_close(load_model(file).module(X).embedding, expected)


def test_a_lonely_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"its keys are not RETFound's. Give a folder"):
        load_model(tmp_path / "model.pth")
