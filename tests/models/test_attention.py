"""Queries, keys and values as they enter the product: against what goes into each layer's output projection, and by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import nn
from torch.nn import functional

from edgefm.models import load_model
from edgefm.models.attention import AttentionEncoder, attention_shapes
from edgefm.models.encoder import ModuleEncoder, TimmEncoder
from edgefm.models.loaded import Attended, Outputs

from .conftest import TINY_VIT, randomise
from .test_frozen import contract, graph
from .test_hf_dir import TINY, dinov2, phikon, write
from .test_open_clip import Linear, biomedclip

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
EVA = {"img_size": 32, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 2}


def vit(name: str = "vit_tiny_patch16_224", sizes: dict[str, Any] = TINY_VIT, **options: Any) -> TimmEncoder:
    return TimmEncoder(randomise(timm.create_model(name, **sizes, **options)), architecture=name, arguments={}).eval()


def clip() -> Any:
    config = transformers.CLIPVisionConfig(image_size=28, patch_size=14, **TINY)
    return randomise(transformers.CLIPVisionModel(config))


def ask(encoder: nn.Module, x: torch.Tensor, names: tuple[str, ...] | None = None) -> Attended:
    with torch.no_grad():
        return AttentionEncoder(encoder, names)(x)  # type: ignore[no-any-return]


def into_projections(encoder: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What goes into the output projection of each attention layer, `[N, T, H d]`, in the order of the computation."""
    seen: list[torch.Tensor] = []
    ends = ("attn.proj", "attention.output.dense", "out_proj", "attention.o_proj")
    layers = [each for name, each in encoder.named_modules() if name.endswith(ends)]
    handles = [each.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0])) for each in layers]
    with torch.no_grad():
        encoder(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", ["ViT", "ViT with normed queries", "EVA, rotated", "phikon", "dinov2", "clip", "biomedclip"])
def test_plain_attention_of_them_is_what_goes_into_the_output_projection(tmp_path: Path, kind: str) -> None:
    x = X[:, :, :28, :28] if kind in ("phikon", "dinov2", "clip") else X
    if kind == "biomedclip":
        biomedclip(tmp_path / kind, Linear())
        encoder = load_model(tmp_path / kind).module
    elif kind in ("phikon", "dinov2", "clip"):
        model = {"phikon": phikon, "dinov2": dinov2, "clip": clip}[kind]()
        encoder = load_model(write(tmp_path / kind, model)).module
    else:
        options: dict[str, Any] = {"qk_norm": True} if "normed" in kind else {}
        encoder = vit("eva02_tiny_patch14_224", EVA) if "EVA" in kind else vit(**options)
    found, wanted = ask(encoder, x), into_projections(encoder, x)
    assert len(wanted) > 1
    assert len(found.attention) == 3 * len(wanted)
    assert len(attention_shapes(found)) == len(wanted)
    for layer, expected in enumerate(wanted):
        q, k, v = (found.attention[f"{part}{layer}"] for part in "qkv")
        maps = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        torch.testing.assert_close((maps @ v).transpose(1, 2).flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_normed_queries_are_those_of_the_layers_own_parts() -> None:
    encoder = vit(qk_norm=True)
    attn: Any = encoder.model.blocks[1].attn  # type: ignore[index, union-attr]
    seen: list[torch.Tensor] = []
    attn.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    found = ask(encoder, X).attention
    with torch.no_grad():
        q, k, v = attn.qkv(seen[0]).reshape(2, 5, 3, 2, 16).permute(2, 0, 3, 1, 4)
        wanted = {"q1": attn.q_norm(q), "k1": attn.k_norm(k), "v1": v}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_registers_are_left_out_and_the_class_token_stays_first() -> None:
    encoder = vit(reg_tokens=4, no_embed_class=True)
    qkv: list[torch.Tensor] = []
    encoder.model.blocks[0].attn.qkv.register_forward_hook(lambda _module, _inputs, output: qkv.append(output))  # type: ignore[index, union-attr]
    found = ask(encoder, X)
    q = qkv[0].reshape(2, 9, 3, 2, 16).permute(2, 0, 3, 1, 4)[0]
    assert torch.equal(found.attention["q0"], q[:, :, [0, 5, 6, 7, 8]])
    assert attention_shapes(found) == ((2, 5, 16), (2, 5, 16))


def test_registers_without_a_class_token_leave_the_patches() -> None:
    options: dict[str, Any] = {"class_token": False, "global_pool": "avg"}
    assert attention_shapes(ask(vit(**options), X)) == ((2, 4, 16), (2, 4, 16))
    assert attention_shapes(ask(vit(reg_tokens=1, **options), X)) == ((2, 4, 16), (2, 4, 16))


def test_a_dinov2_with_registers_says_so_itself(tmp_path: Path) -> None:
    config = transformers.Dinov2WithRegistersConfig(image_size=28, patch_size=14, **TINY)
    encoder = load_model(write(tmp_path, randomise(transformers.Dinov2WithRegistersModel(config)))).module
    assert attention_shapes(ask(encoder, X[:, :, :28, :28])) == ((2, 5, 16), (2, 5, 16))


def test_pooling_by_queries_of_its_own_is_no_layer() -> None:
    found = ask(vit("test_vit3", {}), torch.rand(1, 3, 160, 160))
    assert len(attention_shapes(found)) == 9


@pytest.mark.parametrize(
    "name", ["test_resnet", "mobilenetv4_conv_small", "swin_tiny_patch4_window7_224", "xcit_nano_12_p8_224"]
)
def test_what_is_no_plain_vision_transformer_shows_none(name: str) -> None:
    encoder = vit(name, {})
    encoder.tokens = True
    side = 64 if name == "test_resnet" else 224
    assert attention_shapes(ask(encoder, torch.rand(1, 3, side, side))) == ()


def test_a_frozen_graph_shows_none(tmp_path: Path) -> None:
    contract(tmp_path)
    found = ask(load_model(graph(tmp_path / "teacher.onnx")).module, torch.rand(1, 3, 8, 8))
    assert found.attention == {}
    assert attention_shapes(found) == ()


def test_the_answer_is_the_same_and_only_what_is_asked_for_is_noted() -> None:
    encoder = vit(num_classes=3)
    with torch.no_grad():
        plain = encoder(X)
    found = ask(encoder, X, ("q1", "v0"))
    logits, embedding, tokens = found
    assert torch.equal(logits, plain.logits)
    assert torch.equal(embedding, plain.embedding)
    assert tokens is None
    assert set(found.attention) == {"q1", "v0"}


def test_nothing_is_left_on_the_model_and_it_can_be_copied() -> None:
    encoder = vit()
    names = list(encoder.state_dict())
    learner = AttentionEncoder(encoder, ("q1",))
    learner(X)
    assert list(encoder.state_dict()) == names
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in learner.modules())
    assert torch.equal(copy.deepcopy(learner)(X).attention["q1"], learner(X).attention["q1"])


def test_gradients_reach_the_weights_before_the_product() -> None:
    encoder = vit()
    AttentionEncoder(encoder, ("k1",))(X).attention["k1"].sum().backward()
    first, last = (encoder.model.blocks[number].attn.qkv.weight.grad for number in (0, 1))  # type: ignore[index, union-attr]
    assert first.abs().sum() > 0
    assert last[32:64].abs().sum() > 0
    assert not last[64:].any()  # the values


class Own(nn.Module):
    """A user's attention over 1 + 4 tokens, with a scale, a mask or a future of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: torch.Tensor) -> Outputs:
        rows = x[:, 0, :5, :8].reshape(len(x), 1, 5, 8)
        seen = functional.scaled_dot_product_attention(rows, 2 * rows, rows, **self.options)
        return Outputs(None, seen[:, 0, 0])


def test_a_scale_of_its_own_is_in_the_keys() -> None:
    found = ask(ModuleEncoder(Own(scale=0.5), classifies=False), X)
    rows = X[:, 0, :5, :8].reshape(2, 1, 5, 8)
    torch.testing.assert_close(found.attention["q0"] @ found.attention["k0"].mT / 8**0.5, 0.5 * rows @ (2 * rows).mT)
    assert attention_shapes(found) == ((1, 5, 8),)


@pytest.mark.parametrize("options", [{"attn_mask": torch.zeros(5, 5)}, {"is_causal": True}], ids=["mask", "causal"])
def test_masked_attention_is_left_aside(options: dict[str, Any]) -> None:
    assert ask(ModuleEncoder(Own(**options), classifies=False), X).attention == {}
