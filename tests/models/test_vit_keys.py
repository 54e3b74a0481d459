"""The published encoders at their real size, by names and shapes alone: nothing is computed, no weights are made."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked

from edgefm.models.families import family_of
from edgefm.models.timm_build import build_timm
from edgefm.models.vit_keys import vit_arguments, vit_structure
from edgefm.models.weights import misfits

SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
UNI2 = {"embed_dim": 1536, "depth": 24, "num_heads": 24, "mlp_ratio": 2.66667 * 2, "init_values": 1e-5, "no_embed_class": True}
GIGA = {"img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334}
PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "UNI": ("mahmoodlab/uni", "vit_large_patch16_224", {"init_values": 1e-5}),
    "UNI2-h": ("mahmoodlab/uni2-h", "vit_giant_patch14_224", {**UNI2, **SWIGLU, "reg_tokens": 8}),
    "Virchow": ("paige-ai/virchow", "vit_huge_patch14_224", {**SWIGLU, "init_values": 1e-5, "mlp_ratio": 5.3375}),
    "Virchow2": (
        "paige-ai/virchow2",
        "vit_huge_patch14_224",
        {**SWIGLU, "init_values": 1e-5, "mlp_ratio": 5.3375, "reg_tokens": 4},
    ),
    "H-optimus": ("bioptimus/h-optimus-0", "vit_giant_patch14_reg4_dinov2", {"img_size": 224, "init_values": 1e-5}),
    "GigaPath": ("prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", GIGA),
    "RETFound": ("", "vit_large_patch16_224", {"global_pool": "avg"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("stated", ["nothing", "all that JSON can hold"])
def test_the_published_geometry_is_read_off_the_weights(name: str, stated: str) -> None:
    hub, architecture, card = PUBLISHED[name]
    with torch.device("meta"):
        published: Any = timm.create_model(architecture, num_classes=0, **card)
    state = published.state_dict()
    structure = vit_structure(state)
    assert structure is not None
    family = family_of(hub or None, architecture, structure)
    assert family == family_of(None, architecture, structure) or name == "H-optimus"
    skeleton = build_timm(architecture, {}, {}, name)
    heads = skeleton.blocks[0].attn.num_heads if skeleton.embed_dim == structure.width else None
    if family is not None and family.head_channels:
        heads = structure.width // family.head_channels
    said = {} if stated == "nothing" else {key: value for key, value in card.items() if key not in SWIGLU}
    rebuilt = build_timm(architecture, vit_arguments(structure, said, heads=heads, where=name), {}, name)
    assert not misfits(rebuilt, state)
    for ours, theirs in zip(rebuilt.modules(), published.modules()):
        assert type(ours) is type(theirs)
        assert getattr(ours, "num_heads", None) == getattr(theirs, "num_heads", None)
    assert (rebuilt.num_prefix_tokens, rebuilt.no_embed_class) == (published.num_prefix_tokens, published.no_embed_class)
    assert rebuilt.global_pool == published.global_pool


def test_other_architectures_have_no_such_structure() -> None:
    for name in ("resnet18", "swin_tiny_patch4_window7_224", "convnext_atto"):
        with torch.device("meta"):
            assert vit_structure(timm.create_model(name).state_dict()) is None
