"""The published encoders' structures, on small random checkpoints in their layout and keys, against their documented usage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked

from edgefm.errors import InputError
from edgefm.models import load_model

from .conftest import randomise, write_timm_folder

X = torch.rand(2, 3, 42, 42, generator=torch.Generator().manual_seed(1))
CFG = {"input_size": [3, 42, 42]}
# The keyword arguments of the model cards, at a small width and depth.
UNI2 = {
    "img_size": 42,
    "patch_size": 14,
    "depth": 2,
    "num_heads": 2,
    "init_values": 1e-5,
    "embed_dim": 128,
    "mlp_ratio": 2.66667 * 2,
    "num_classes": 0,
    "no_embed_class": True,
    "mlp_layer": SwiGLUPacked,
    "act_layer": torch.nn.SiLU,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}
VIRCHOW2 = {
    "img_size": 42,
    "depth": 2,
    "embed_dim": 64,
    "num_heads": 4,
    "init_values": 1e-5,
    "num_classes": 0,
    "reg_tokens": 4,
    "mlp_ratio": 5.3125,
    "global_pool": "",
    "dynamic_img_size": True,
}


@pytest.mark.parametrize("stated", [{}, {"img_size": 42, "reg_tokens": 8, "dynamic_img_size": True}], ids=["nothing", "some"])
def test_uni2_h_is_built_from_its_weights_where_its_config_states(tmp_path: Path, stated: dict[str, object]) -> None:
    model = randomise(timm.create_model("vit_giant_patch14_224", **UNI2))
    folder = write_timm_folder(
        tmp_path / "UNI2-h", "vit_giant_patch14_224", model, weights="pytorch_model.bin", cfg=CFG, model_args=stated
    )
    loaded = load_model(folder)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
        expected = model(X)
    assert logits is None
    assert embedding.shape == (2, 128)
    torch.testing.assert_close(embedding, expected)
    torch.testing.assert_close(embedding, model.forward_features(X)[:, 0])
    assert loaded.task.kind == "embedding"


def test_uni2_h_gates_with_silu_not_with_timms_default(tmp_path: Path) -> None:
    model = randomise(timm.create_model("vit_giant_patch14_224", **UNI2))
    wrong = timm.create_model("vit_giant_patch14_224", **(UNI2 | {"act_layer": None})).eval()
    wrong.load_state_dict(model.state_dict())
    loaded = load_model(write_timm_folder(tmp_path / "uni2", "vit_giant_patch14_224", model, cfg=CFG))
    with torch.no_grad():
        assert not torch.allclose(loaded.module(X).embedding, wrong(X), atol=1e-3)


@pytest.mark.parametrize("registers", [0, 4], ids=["virchow", "virchow2"])
def test_virchow_concatenates_class_token_and_mean_patch_past_the_registers(tmp_path: Path, registers: int) -> None:
    stated = VIRCHOW2 | {"reg_tokens": registers}
    model = randomise(timm.create_model("vit_huge_patch14_224", mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, **stated))
    folder = write_timm_folder(tmp_path / "Virchow2", "vit_huge_patch14_224", model, cfg=CFG, model_args=stated, global_pool="")
    embedding = load_model(folder).module(X).embedding
    with torch.no_grad():
        tokens = model(X)
    assert tokens.shape == (2, 9 + 1 + registers, 64)
    expected = torch.cat([tokens[:, 0], tokens[:, 1 + registers :].mean(1)], dim=-1)
    torch.testing.assert_close(embedding, expected)


def test_a_virchow_that_was_fine_tuned_with_a_classifier_pools_as_its_classifier_does(tmp_path: Path) -> None:
    stated = VIRCHOW2 | {"num_classes": 3, "global_pool": "token"}
    model = randomise(timm.create_model("vit_huge_patch14_224", mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, **stated))
    loaded = load_model(
        write_timm_folder(tmp_path / "tuned", "vit_huge_patch14_224", model, cfg=CFG, num_classes=3, model_args=stated)
    )
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).logits, model(X))
    assert loaded.task.kind == "multiclass"


def test_h_optimus_has_its_own_mean_and_std_whatever_its_config_says(hub_cache: Callable[[str], Path]) -> None:
    stated = {"img_size": 42, "embed_dim": 64, "depth": 2, "num_heads": 4, "init_values": 1e-5, "mlp_ratio": 5.3125}
    model = randomise(timm.create_model("vit_giant_patch14_reg4_dinov2", num_classes=0, **stated))
    write_timm_folder(
        hub_cache("bioptimus/H-optimus-0"),
        "vit_giant_patch14_reg4_dinov2",
        model,
        cfg=CFG,
        model_args=stated,
        global_pool="token",
    )
    loaded = load_model("hf-hub:bioptimus/H-optimus-0")
    assert loaded.preprocess.mean == (0.707223, 0.578729, 0.703617)
    assert loaded.preprocess.std == (0.211883, 0.230117, 0.177517)
    assert loaded.name == "bioptimus/H-optimus-0"
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).embedding, model(X))


def test_gigapath_has_patches_of_16_and_is_cut_out_of_256(tmp_path: Path) -> None:
    stated = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 4, "init_values": 1e-5}
    stated |= {"mlp_ratio": 5.3125}
    model = randomise(timm.create_model("vit_giant_patch14_dinov2", num_classes=0, **stated))
    loaded = load_model(write_timm_folder(tmp_path / "giga", "vit_giant_patch14_dinov2", model, model_args=stated))
    assert (loaded.preprocess.size, loaded.preprocess.resize_to) == (32, 256)
    x = X[:, :, :32, :32]
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x).embedding, model(x))


def test_swin_is_pooled_over_its_last_stage(tmp_path: Path) -> None:
    stated = {"img_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 2}
    model = randomise(timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, **stated))
    folder = write_timm_folder(
        tmp_path / "swin",
        "swin_tiny_patch4_window7_224",
        model,
        cfg={"input_size": [3, 64, 64]},
        num_classes=3,
        label_names=["a", "b", "c"],
        model_args=stated,
    )
    loaded = load_model(folder)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(x)
        torch.testing.assert_close(logits, model(x))
        torch.testing.assert_close(embedding, model.forward_features(x).mean(dim=(1, 2)))
    assert loaded.task.labels == ("a", "b", "c")


def test_densenet_gives_logits_and_the_pooled_features_before_them(tmp_path: Path) -> None:
    stated = {"growth_rate": 4, "block_config": [1, 1, 1, 1]}
    model = randomise(timm.create_model("densenet121", num_classes=2, **stated))
    cfg = {"input_size": [3, 64, 64], "fixed_input_size": False}
    folder = write_timm_folder(tmp_path / "densenet", "densenet121", model, num_classes=2, model_args=stated, cfg=cfg)
    loaded = load_model(folder)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(x)
        torch.testing.assert_close(logits, model(x))
        torch.testing.assert_close(embedding, model.forward_features(x).mean(dim=(2, 3)))
    assert (loaded.task.kind, loaded.task.labels) == ("binary", ("0", "1"))


def test_positions_learned_at_another_size_are_interpolated_as_timm_does(tmp_path: Path) -> None:
    small = {"patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = randomise(timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=70, **small))
    folder = write_timm_folder(tmp_path / "dino", "vit_small_patch14_dinov2", model, cfg=CFG, model_args=small)
    reference = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    loaded = load_model(folder)
    assert loaded.preprocess.size == 42
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).embedding, reference(X))


def test_a_width_whose_number_of_heads_nobody_states_is_refused(tmp_path: Path) -> None:
    model = timm.create_model("vit_base_patch16_224", num_classes=0, img_size=32, embed_dim=48, depth=1, num_heads=3)
    folder = write_timm_folder(tmp_path / "odd", "vit_base_patch16_224", model)
    with pytest.raises(InputError, match=r"48 wide.*State num_heads under model_args"):
        load_model(folder)


def test_tokens_whose_pooling_nobody_states_are_refused(tmp_path: Path, tiny_vit: torch.nn.Module) -> None:
    tiny_vit.reset_classifier(0)  # type: ignore[operator]
    stated = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "global_pool": ""}
    folder = write_timm_folder(tmp_path / "open", "vit_tiny_patch16_224", tiny_vit, model_args=stated)
    with pytest.raises(InputError, match="pooling of its tokens open"):
        load_model(folder)


@pytest.mark.parametrize("name", ["resnetv2_50", "deit_tiny_distilled_patch16_224"], ids=["convolution", "two heads"])
def test_a_classifier_that_is_no_single_layer_answers_by_its_own_way(tmp_path: Path, name: str) -> None:
    stated: dict[str, object] = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_chs": 8}
    if name != "resnetv2_50":
        stated = {"img_size": 32, "depth": 1, "embed_dim": 32, "num_heads": 2}
    model = randomise(timm.create_model(name, num_classes=3, **stated))
    cfg = {"input_size": [3, 32, 32], "fixed_input_size": False}
    loaded = load_model(write_timm_folder(tmp_path / "odd", name, model, num_classes=3, model_args=stated, cfg=cfg))
    x = X[:, :, :32, :32]
    with torch.no_grad():
        logits, embedding, _ = loaded.module(x)
        torch.testing.assert_close(logits, model(x))
        torch.testing.assert_close(embedding, model.forward_head(model.forward_features(x), pre_logits=True))
