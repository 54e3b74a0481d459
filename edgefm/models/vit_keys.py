"""The structure of a timm vision transformer, read off the names and shapes of its weights.

Not a loader. The weights are the truth about structure; a configuration often keeps silent (Virchow2's SwiGLU and UNI2-h's
whole geometry stand in their model cards only, because `timm.create_model` takes them as Python objects).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, NamedTuple

import torch

from ..errors import InputError


class Structure(NamedTuple):
    """Geometry of a vision transformer. Sizes in channels, tokens or pixels.

    `packed`: SwiGLU with gate and value in one `fc1`. `class_in_grid`: position embeddings cover the prefix tokens too.
    `grid`: patches per side. `head`: classes of the classifier, 0 without one. `mean_pooled`: `fc_norm` instead of `norm`.
    """

    channels: int
    width: int
    depth: int
    patch: int
    registers: int
    hidden: int
    packed: bool
    scaled: bool
    class_token: bool
    class_in_grid: bool
    grid: int
    qkv_bias: bool
    qk_norm: bool
    mean_pooled: bool
    head: int


def vit_structure(state: Mapping[str, torch.Tensor]) -> Structure | None:
    """The structure behind timm `VisionTransformer` weights; None for any other architecture."""
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight")
    if any(key not in state for key in needed) or state["patch_embed.proj.weight"].ndim != 4:
        return None
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    class_token = "cls_token" in state
    prefix = registers + class_token
    positions = state["pos_embed"].shape[1]
    class_in_grid = prefix > 0 and isqrt(positions) ** 2 != positions
    return Structure(
        channels=channels,
        width=width,
        depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        patch=patch,
        registers=registers,
        hidden=hidden,
        packed=hidden == 2 * state["blocks.0.mlp.fc2.weight"].shape[1],
        scaled="blocks.0.ls1.gamma" in state,
        class_token=class_token,
        class_in_grid=class_in_grid,
        grid=isqrt(positions - prefix if class_in_grid else positions),
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        mean_pooled="fc_norm.weight" in state,
        head=state["head.weight"].shape[0] if "head.weight" in state else 0,
    )


def vit_arguments(structure: Structure, stated: Mapping[str, Any], *, heads: int | None, where: object) -> dict[str, Any]:
    """Arguments of `timm.create_model` for that structure.

    Args:
        structure: wins over `stated` where both speak.
        stated: `model_args` of the configuration.
        heads: number of attention heads where `stated` has none; weights cannot tell it.

    Raises:
        InputError: the number of heads is not known, or does not divide the width.
    """
    heads = stated.get("num_heads", heads)
    if heads is None or structure.width % heads:
        raise InputError(
            f"the weights in {where} are {structure.width} wide, and their number of attention heads is "
            + ("not stated" if heads is None else f"said to be {heads}"),
            do="state num_heads under model_args in its config.json",
        )
    arguments = dict(stated) | {
        "img_size": structure.grid * structure.patch,
        "patch_size": structure.patch,
        "in_chans": structure.channels,
        "embed_dim": structure.width,
        "depth": structure.depth,
        "num_heads": heads,
        "mlp_ratio": (structure.hidden + 0.5) / structure.width,
        "qkv_bias": structure.qkv_bias,
        "qk_norm": structure.qk_norm,
        "init_values": 1e-5 if structure.scaled else None,
        "class_token": structure.class_token,
        "reg_tokens": structure.registers,
        "no_embed_class": not structure.class_in_grid,
        "num_classes": structure.head,
    }
    if structure.packed:
        # Every published ViT with a packed SwiGLU gates with SiLU, but timm's block hands its own GELU down unless told.
        arguments |= {"mlp_layer": "SwiGLUPacked", "act_layer": stated.get("act_layer", "silu")}
    if structure.mean_pooled:
        arguments["global_pool"] = "avg"
    return arguments
