"""What the native exporter takes and what it refuses; its packing; and that smoothing changes nothing but int8's error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("edgefm._native")
pytest.importorskip("timm")

import timm
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock

from edgefm import _native
from edgefm.bundle import open_bundle
from edgefm.errors import GateRefused, InputError
from edgefm.export import export, native
from edgefm.export.golden import reference
from edgefm.export.native import native_entries
from edgefm.export.native_pack import gated, pack_fp32, pack_int8
from edgefm.export.native_smooth import smoothed
from edgefm.export.native_vit import Vit, read_vit
from edgefm.models import LoadedModel
from edgefm.models.encoder import TimmEncoder
from edgefm.models.loaded import task_of
from edgefm.models.probe import with_classifier
from edgefm.quantize import expected, quantize
from edgefm.spec.recipe import QuantizeRecipe, Recipe
from edgefm.spec.task import make_task
from tests.native.vits import files, images, make, nmse

NOT_VITS = ("mobilenetv4_conv_small", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "vit_tiny_r_s16_p8_224")
TINY = {"embed_dim": 96, "depth": 1, "num_heads": 3, "img_size": 64}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "attention pooling": ("vit_base_patch16_siglip_224", TINY, "pooling"),
    "largest value of each channel": ("vit_tiny_patch16_224", {**TINY, "global_pool": "max"}, "pooling"),
    "mean with the class token": ("vit_tiny_patch16_224", {**TINY, "global_pool": "avg", "pool_include_prefix": True}, "mean"),
    "norm behind attention": ("vit_tiny_patch16_224", {**TINY, "scale_attn_norm": True}, r"attn\.norm"),
    "norm inside the MLP": ("vit_tiny_patch16_224", {**TINY, "scale_mlp_norm": True}, r"mlp\.norm"),
    "RMSNorm": ("vit_tiny_patch16_224", {**TINY, "norm_layer": "rmsnorm"}, "RmsNorm|RMSNorm"),
    "quick GELU": ("vit_base_patch32_clip_quickgelu_224", {**TINY, "img_size": 96}, "QuickGELU"),
    "parallel blocks": ("vit_small_patch16_36x1_224", {**TINY, "block_fn": ParallelScalingBlock}, "Block"),
    "norm behind the residual": ("vit_tiny_patch16_224", {**TINY, "block_fn": ResPostBlock}, "Block"),
    "narrow heads": ("vit_tiny_patch16_224", {**TINY, "num_heads": 6}, "16 channels"),
    "too many layers": ("vit_tiny_patch16_224", {**TINY, "embed_dim": 32, "num_heads": 1, "depth": 257}, "depth is 257; expe"),
    "a norm of patches": ("vit_tiny_patch16_224", {**TINY, "embed_norm_layer": nn.LayerNorm}, "patch_embed.norm"),
}  # fmt: skip


def loaded(architecture: str, arguments: dict[str, Any]) -> LoadedModel:
    module = timm.create_model(architecture, pretrained=False, num_classes=2, **arguments).eval()
    size = module.pretrained_cfg["input_size"][-1] if "img_size" not in arguments else arguments["img_size"]
    model = replace(make("class token"), name=architecture, task=task_of(2))
    from msgspec.structs import replace as changed

    spec = changed(model.preprocess, size=size, resize_to=size)
    return replace(model, module=TimmEncoder(module, architecture=architecture, arguments={}).eval(), preprocess=spec)


@pytest.mark.parametrize("architecture", NOT_VITS)
def test_other_architectures_are_refused(architecture: str) -> None:
    with pytest.raises(InputError, match=rf"{architecture} cannot be a native variant"):
        read_vit(loaded(architecture, {}))


@pytest.mark.parametrize("what", REFUSED)
def test_parts_that_the_engine_does_not_know_are_refused(what: str) -> None:
    architecture, arguments, match = REFUSED[what]
    with pytest.raises(InputError, match=match):
        read_vit(loaded(architecture, arguments))


def subclass(block: Any) -> None:
    class Sneaky(type(block.attn)):  # type: ignore[misc]
        pass

    block.attn.__class__ = Sneaky


CHANGED: dict[str, Callable[[Any], object]] = {
    "a subclass of attention": lambda model: subclass(model.blocks[1]),
    "a linear layer of another kind": lambda model: setattr(model.blocks[1].mlp, "fc1", nn.Sequential(model.blocks[1].mlp.fc1)),
    "a parametrized weight": lambda model: nn.utils.parametrizations.weight_norm(model.blocks[0].attn.proj),
    "another eps in one norm": lambda model: setattr(model.blocks[1].norm2, "eps", 1e-3),
    "queries normalised alone": lambda model: setattr(model.blocks[0].attn, "q_norm", nn.LayerNorm(32, eps=1e-6)),
    "another activation in one layer": lambda model: setattr(model.blocks[1].mlp, "act", nn.ReLU()),
    "overlapping patches": lambda model: setattr(model.patch_embed.proj, "stride", (8, 8)),
    "other widths": lambda model: setattr(model.blocks[1].attn, "num_heads", 1),
    "another scale of scores": lambda model: setattr(model.blocks[1].attn, "scale", 0.5),
    "a hook": lambda model: model.blocks[1].mlp.fc1.register_forward_hook(lambda _part, _inputs, output: 2 * output),
    "a hook before": lambda model: model.blocks[0].register_forward_pre_hook(lambda _part, inputs: (2 * inputs[0],)),
    "a hook on the whole": lambda model: model.register_forward_hook(lambda _part, _inputs, output: 2 * output),
    "the old weight_norm": lambda model: nn.utils.weight_norm(model.blocks[0].attn.proj),
    "another forward": lambda model: setattr(model.blocks[1], "forward", lambda x: x),
    "an eps that is 0 in float32": lambda model: [
        setattr(part, "eps", 1e-50) for part in model.modules() if isinstance(part, nn.LayerNorm)
    ],
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_in_a_known_model_is_refused(what: str) -> None:
    model = make("class token", CHANGED[what])
    with pytest.raises(InputError, match="cannot be a native variant"):
        read_vit(model)


def test_the_same_model_makes_the_same_bytes_and_the_json_is_canonical() -> None:
    import msgspec

    for precision in ("fp32", "int8"):
        one, other = (native_entries(make("packed SwiGLU"), precision, "x") for _ in range(2))  # type: ignore[arg-type]
        assert one == other
        assert msgspec.json.encode(msgspec.json.decode(one["x/encoder.json"]), order="sorted") == one["x/encoder.json"]


def test_a_classifier_on_top_is_the_head() -> None:
    base = replace(make("a projection"), task=make_task("embedding"))
    model = with_classifier(base, make_task("binary", ("no", "yes")), 3)
    prepared = images(model, 2)
    logits, embedding, _ = _native.Encoder(*files(model, "fp32"), threads=1, images=2).run(prepared)
    expected = reference(model, prepared)
    assert np.abs(logits - expected["logits"]).max() <= 1e-5
    assert np.abs(embedding - expected["embedding"]).max() <= 1e-4 * expected["embedding"].std()


@pytest.mark.parametrize("shape", [(16, 4), (1, 1), (17, 5), (3, 130), (96, 97)])
def test_packing_is_undone_by_its_description(shape: tuple[int, int]) -> None:
    n, k = shape
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    weight[0] = 0
    codes, scale, total = pack_int8(weight)
    flat = codes.transpose(0, 2, 1, 3).reshape(codes.shape[0] * 16, -1)
    assert np.abs(flat[:n, :k] * scale[:n, None] - weight).max() <= np.abs(weight).max() / 254 + 1e-7
    assert not flat[n:].any()
    assert not flat[:, k:].any()
    assert np.array_equal(flat.sum(axis=1, dtype=np.int32), total)
    assert np.array_equal(pack_fp32(weight).transpose(0, 2, 1).reshape(-1, k)[:n], weight)


def test_gates_and_values_take_turns_in_blocks_of_16() -> None:
    rows = np.arange(2 * 20, dtype=np.float32)  # 20 gates, 20 values
    found = gated(rows)
    assert np.array_equal(found[:16], rows[:16])
    assert np.array_equal(found[16:32], rows[20:36])
    assert np.array_equal(found[32:36], rows[16:20])
    assert not found[36:48].any()
    assert np.array_equal(found[48:52], rows[36:40])


FIVE = torch.tensor([3, 17, 40, 41, 90])


def large_norms(model: Any) -> None:
    """Five channels that the norms make fifty times as large."""
    for block in model.blocks:
        for norm in (block.norm1, block.norm2):
            norm.weight[FIVE] *= 50


def large_values(model: Any) -> None:
    """Five channels of attention's values."""
    for block in model.blocks:
        block.attn.qkv.weight[2 * model.embed_dim + FIVE] *= 50


def large_hidden(model: Any) -> None:
    """Five channels that fc2 reads."""
    for block in model.blocks:
        made = block.mlp.fc1.out_features - block.mlp.fc2.in_features  # a SwiGLU's values are behind its gates
        block.mlp.fc1.weight[made + FIVE] *= 50


@pytest.mark.parametrize("kind", ["class token", "packed SwiGLU, class + mean", "qk-norm", "registers, LayerScale"])
@pytest.mark.parametrize("planted", [large_norms, large_values, large_hidden])
def test_int8_stands_outliers_and_smoothing_is_why(
    kind: str, planted: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(kind, planted)
    prepared = images(model, 4)
    expected = reference(model, prepared)["embedding"]

    def error() -> float:
        return float(nmse(_native.Encoder(*files(model, "int8"), threads=1, images=4).run(prepared)[1], expected))

    smooth = error()
    assert smooth <= 1e-2
    monkeypatch.setattr(native, "smoothed", unsmoothed)
    assert smooth <= 0.9 * error()


def unsmoothed(vit: Vit) -> Vit:
    """With nothing behind its GELUs, as the format wants it."""
    if vit.architecture["activation"] == "swiglu":
        return vit
    ones = np.ones(vit.architecture["hidden"], np.float32)
    return replace(vit, rows=vit.rows | {f"layers.{index}.hidden": ones for index in range(vit.architecture["depth"])})


def test_rows_without_outliers_are_left_alone() -> None:
    vit = read_vit(make("class token"))
    smooth = smoothed(vit)
    for index in range(vit.architecture["depth"]):
        assert (smooth.rows[f"layers.{index}.hidden"] == 1).all()
        for linear in ("proj", "fc2"):
            assert np.array_equal(smooth.linears[f"layers.{index}.{linear}"][0], vit.linears[f"layers.{index}.{linear}"][0])


@pytest.mark.parametrize("kind", ["class token", "packed SwiGLU", "no biases, no positions"])
def test_smoothing_is_the_same_function(kind: str) -> None:
    vit = read_vit(make(kind, large_values))
    smooth = smoothed(vit)
    attention = vit.architecture["heads"] * vit.architecture["head_width"]
    for index in range(vit.architecture["depth"]):
        at = f"layers.{index}"
        factors: dict[str, np.ndarray | float] = {"qkv": np.ones(3 * attention), "fc1": 1.0}
        factors["qkv"][2 * attention :] = _ratio(vit.linears[f"{at}.proj"][0], smooth.linears[f"{at}.proj"][0])  # type: ignore[index]
        hidden = _ratio(vit.linears[f"{at}.fc2"][0], smooth.linears[f"{at}.fc2"][0])
        if vit.architecture["activation"] == "swiglu":
            factors["fc1"] = np.stack([np.ones_like(hidden), hidden]).reshape(2, -1, 16).swapaxes(0, 1).ravel()
        else:
            assert np.allclose(smooth.rows[f"{at}.hidden"] * hidden, 1)
        for norm, linear in (("norm1", "qkv"), ("norm2", "fc1")):
            (gamma, beta), (weight, bias) = vit.norms[f"{at}.{norm}"], vit.linears[f"{at}.{linear}"]
            (other_gamma, other_beta), (other, other_bias) = smooth.norms[f"{at}.{norm}"], smooth.linears[f"{at}.{linear}"]
            factor = np.reshape(factors[linear], (-1, 1))
            assert np.allclose(weight * gamma, factor * other * other_gamma, rtol=1e-4)
            assert np.allclose(weight @ beta + bias, factor[:, 0] * (other @ other_beta + other_bias), rtol=1e-3, atol=1e-4)
        assert np.array_equal(smooth.linears[f"{at}.fc2"][1], vit.linears[f"{at}.fc2"][1])


def _ratio(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What each column was multiplied with; of padding, 1."""
    large = np.abs(before).argmax(axis=0)
    columns = np.arange(before.shape[1])
    was, now = before[large, columns], after[large, columns]
    return np.where(was == 0, 1.0, now / np.where(was == 0, 1.0, was))


def test_export_and_quantize_write_native_variants_through_their_gates(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = replace(
        make("class token", lambda trunk: trunk.reset_classifier(2)), task=make_task("binary", ("clear", "opacity"))
    )
    said: list[str] = []
    export(model, tmp_path / "fp32.efm", report=said.append)
    assert any(line.startswith("native-fp32: as the model, within") for line in said)
    recipe = Recipe(quantize=QuantizeRecipe(engines=("native",), max_drop=1.0, max_flips=1.0))
    quantize(model, "phantom:opacity?n=60&size=64", tmp_path / "int8.efm", recipe=recipe, report=said.append)
    with open_bundle(tmp_path / "int8.efm") as bundle:
        assert [variant.name for variant in bundle.manifest.variants] == ["native-fp32", "native-int8"]
        small = bundle.manifest.variants[1]
        assert bundle.manifest.refused is None
        assert "auc_drop" in small.evidence
        assert "native-int8.logits" in bundle.manifest.golden[0].outputs
    assert "no calibration: the native engine takes its scales from each image" in said


def test_native_int8_that_a_device_would_refuse_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    model = replace(
        make("class token", lambda trunk: trunk.reset_classifier(2)), task=make_task("binary", ("clear", "opacity"))
    )
    execute = expected.execute_native
    monkeypatch.setattr(
        expected, "execute_native", lambda *given: {name: rows[:, ::-1] for name, rows in execute(*given).items()}
    )
    recipe = Recipe(quantize=QuantizeRecipe(engines=("native",), max_drop=1.0, max_flips=1.0))
    with pytest.raises(GateRefused, match="native-int8: a device would refuse it: "):
        quantize(model, "phantom:opacity?n=60&size=64", tmp_path / "int8.efm", recipe=recipe, report=lambda _line: None)


def test_a_model_of_another_kind_is_exported_without_it_and_quantized_natively_not_at_all(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from tests.export.small import build_small

    model = build_small("test_efficientnet", make_task("binary", ("clear", "opacity")))
    said: list[str] = []
    export(model, tmp_path / "fp32.efm", report=said.append)
    assert any("cannot be a native variant" in line for line in said)
    with open_bundle(tmp_path / "fp32.efm") as bundle:
        assert [variant.name for variant in bundle.manifest.variants] == ["openvino-fp32", "onnx-fp32"]
    with pytest.raises(InputError, match="cannot be a native variant"):
        quantize(
            model,
            "phantom:opacity?n=60&size=64",
            tmp_path / "int8.efm",
            recipe=Recipe(quantize=QuantizeRecipe(engines=("native",))),
            report=said.append,
        )
