"""open_clip's own vision transformer (CLIP's, `in_proj_weight`) as timm's: the same answers, attention with a fused qkv layer.

Not its towers that are timm models already (`open_clip.py`), and no ResNet.

open_clip's `VisionTransformer`: patches without bias, class token, learned positions, a norm before and after the blocks, the
class token, a projection without bias. timm's `vit_base_patch16_clip_224` is that, and `…_quickgelu_224` with x σ(1.702 x).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .weights import State

NAMES = (
    (r"^conv1\.", "trunk.patch_embed.proj."),
    (r"^class_embedding$", "trunk.cls_token"),
    (r"^positional_embedding$", "trunk.pos_embed"),
    (r"^ln_pre\.", "trunk.norm_pre."),
    (r"^ln_post\.", "trunk.norm."),
    (r"^proj$", "head.proj.weight"),
    (r"^transformer\.resblocks\.(\d+)\.ln_([12])\.", r"trunk.blocks.\1.norm\2."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"trunk.blocks.\1.attn.qkv."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"trunk.blocks.\1.attn.proj."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"trunk.blocks.\1.mlp.fc1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"trunk.blocks.\1.mlp.fc2."),
)
# settings of a tower that are read; at any other value the tower is another
PLAIN: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,),
    "attentional_pool": (False, None),
    "global_average_pool": (False, None),
    "pool_type": ("tok",),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "no_ln_pre": (False,),
    "norm_kwargs": ({}, None),
    "act_kwargs": ({}, None),
}


def is_vit(vision: Mapping[str, Any]) -> bool:
    """Whether `vision_cfg` states such a tower: of a ResNet `layers` is a list."""
    return isinstance(vision.get("layers"), int) and "patch_size" in vision and "timm_model_name" not in vision


def vit_trunk(model_cfg: Mapping[str, Any], where: object) -> tuple[str, dict[str, Any]]:
    """timm's architecture and arguments for the tower of a `model_cfg`.

    Raises:
        InputError: the tower pools, normalises or places its patches in another way than CLIP's.
    """
    vision = model_cfg["vision_cfg"]
    for name, plain in PLAIN.items():
        if name in vision and vision[name] not in plain:
            raise InputError(
                f"the image tower of {where} has {name} {vision[name]!r}",
                expected="CLIP's own",
                do="give it as file.py:function",
            )
    width = int(vision["width"])
    quick = bool(model_cfg.get("quick_gelu", False))
    arguments = {
        "patch_size": int(vision["patch_size"]),
        "embed_dim": width,
        "depth": int(vision["layers"]),
        "num_heads": width // int(vision.get("head_width", 64)),
        "mlp_ratio": float(vision.get("mlp_ratio", 4.0)),
    }
    return "vit_base_patch16_clip_quickgelu_224" if quick else "vit_base_patch16_clip_224", arguments


def timm_keys(state: State) -> State:
    """The weights of such a tower, without `visual.`, under the keys of a tower that is a timm model."""
    found: State = {}
    for key, value in state.items():
        name = key
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        if key == "proj":
            value = value.T.contiguous()
        elif key == "class_embedding":
            value = value[None, None]
        elif key == "positional_embedding":
            value = value[None]
        found[name] = value
    return found
