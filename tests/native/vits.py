"""Small vision transformers of every kind that the native engine computes, with weights that make each part felt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from timm.layers.mlp import SwiGLUPacked

from edgefm.export.native import native_entries
from edgefm.models import LoadedModel
from edgefm.models.encoder import TimmEncoder
from edgefm.models.loaded import task_of
from edgefm.spec.preprocess import Preprocess

SMALL: dict[str, Any] = {"embed_dim": 96, "depth": 2, "num_heads": 3, "num_classes": 3}
SWIGLU: dict[str, Any] = {"img_size": 56, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "class token": ("vit_tiny_patch16_224", {"img_size": 64}, "own"),
    "577 tokens": ("vit_tiny_patch16_384", {"img_size": 384}, "own"),
    "no class token, mean, fc_norm": ("vit_base_patch16_gap_224", {"img_size": 64}, "own"),
    "class token, mean": ("vit_tiny_patch16_224", {"img_size": 64, "global_pool": "avg"}, "own"),
    "registers, LayerScale": ("vit_small_patch14_reg4_dinov2", {"img_size": 70, "init_values": 0.3}, "own"),
    "registers with positions": (
        "vit_small_patch14_reg4_dinov2", {"img_size": 70, "no_embed_class": False, "init_values": 0.3}, "own",
    ),
    "dynamic size": ("vit_small_patch14_dinov2", {"img_size": 70, "dynamic_img_size": True, "init_values": 0.3}, "own"),
    "packed SwiGLU": ("vit_giant_patch14_224", {**SWIGLU, "mlp_ratio": 5.33334, "reg_tokens": 8, "init_values": 0.3}, "own"),
    "packed SwiGLU, class + mean": (
        "vit_huge_patch14_224", {**SWIGLU, "mlp_ratio": 5.3375, "reg_tokens": 4, "num_classes": 0}, "class+patches",
    ),
    "qk-norm": ("vit_tiny_patch16_224", {"img_size": 64, "qk_norm": True}, "own"),
    "pre-norm": ("vit_base_patch32_clip_224", {"img_size": 96}, "own"),
    "GELU by tanh": ("vit_tiny_patch16_224", {"img_size": 64, "act_layer": "gelu_tanh"}, "own"),
    "no biases, no positions": ("vit_tiny_patch16_224", {"img_size": 64, "qkv_bias": False, "pos_embed": "none"}, "own"),
    "patches of 225 values": ("vit_tiny_patch16_224", {"img_size": 60, "patch_size": 15, "in_chans": 1}, "own"),
    "one channel": ("vit_tiny_patch16_224", {"img_size": 64, "in_chans": 1}, "own"),
    "a projection": ("vit_tiny_patch16_224", {"img_size": 64}, "projected"),
    "heads of 80": ("vit_tiny_patch16_224", {"img_size": 64, "embed_dim": 160, "num_heads": 2}, "own"),
    "a width that is no multiple of 16": ("vit_tiny_patch16_224", {"img_size": 64, "embed_dim": 120, "num_heads": 3}, "own"),
}  # fmt: skip


def make(kind: str, change: Callable[[Any], None] = lambda model: None) -> LoadedModel:
    """A model of that kind, its weights drawn so that biases, norms and scales matter."""
    architecture, arguments, pooling = KINDS[kind]
    arguments = SMALL | arguments
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(architecture, pretrained=False, **arguments)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim > 1 and "pos_embed" not in name and "token" not in name:
                    weight.normal_(std=1.2 / weight[0].numel() ** 0.5)
                elif name.endswith("weight"):
                    weight.uniform_(0.5, 1.5)
                elif "gamma" not in name:
                    weight.normal_(std=0.2)
            change(model)
    module = TimmEncoder(model.eval(), architecture=architecture, arguments=arguments, pooling=pooling).eval()  # type: ignore[arg-type]
    classes = 0 if pooling != "own" else model.num_classes
    channels, size = arguments.get("in_chans", 3), arguments["img_size"]
    spec = Preprocess(channels=channels, size=size, resize_to=size, mean=(0.5,) * channels, std=(0.5,) * channels)
    return LoadedModel(module=module, preprocess=spec, task=task_of(classes), name=kind, licence="unknown", sha256="0" * 64)


def images(model: LoadedModel, count: int) -> np.ndarray:
    """Prepared images, float32 `[count, C, S, S]`."""
    spec = model.preprocess
    random = np.random.Generator(np.random.PCG64(1))
    coarse = random.normal(size=(count, spec.channels, 8, 8)).astype(np.float32)
    fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), spec.size, mode="bicubic").numpy()
    return fine + 0.1 * random.normal(size=fine.shape).astype(np.float32)


def aligned(data: bytes) -> np.ndarray:
    """The bytes as unsigned 8-bit `[size]` at a multiple of 64, as a bundle holds them."""
    room = np.empty(len(data) + 64, np.uint8)
    start = -room.ctypes.data % 64
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return room[start : start + len(data)]


def files(model: LoadedModel, precision: str, **options: Any) -> tuple[bytes, np.ndarray]:
    """`encoder.json` and `encoder.bin` of a model."""
    description, weights = native_entries(model, precision, "x", **options).values()  # type: ignore[arg-type]
    return description, aligned(weights)


def nmse(found: np.ndarray, reference: np.ndarray) -> float:
    """Normalised mean squared error: |found - reference|² / |reference|²."""
    reference = reference.astype(np.float64)
    return float(((found - reference) ** 2).sum() / (reference**2).sum())
