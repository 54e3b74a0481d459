"""What medical encoders need that neither their configuration nor their weights tell: one table.

Not a list of supported models: any timm or transformers model loads; a row here only adds what its authors wrote in prose.

| family | known by | what is added | source |
|---|---|---|---|
| UNI2-h | hub id; `vit_giant_patch14_224` with 8 registers | attention heads of 64 channels | model card |
| Virchow, Virchow2 | hub id; `vit_huge_patch14_224` with packed SwiGLU | pooling "class+patches" | model cards |
| H-optimus-0, -1 | hub id | mean and std of its own stain statistics | model cards |
| GigaPath | hub id; `vit_giant_patch14_dinov2` with patches of 16 | shorter side to 256, centre 224 | its README |
| RETFound | in `mae.py`: keys of an MAE ViT | mean of the patch tokens; side 256, centre 224 | its repository |

Everything else belongs to the loaded model's own configuration: UNI and H-optimus take the class token because their
timm configuration says so, Phikon, Phikon-v2 and RAD-DINO because transformers' models do (`hf_dir.py`), BiomedCLIP ends in
its projection (`open_clip.py`). RETFound's notebook for features normalises each image by its own mean and std; its
fine-tuning and evaluation code uses ImageNet's, and so do we.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .encoder import Pooling
from .vit_keys import Structure


class Family(NamedTuple):
    """A row of the table.

    Attributes:
        hubs: hub ids, lower case.
        architecture: its timm architecture, for recognition without a hub id; "" where only the id tells.
        traits: fields of `Structure` that must be equal too.
        head_channels: channels of one attention head, where the configuration may leave the number of heads open.
        pooling: of `TimmEncoder`.
        preprocess: fields of `Preprocess` that its authors state in prose.
    """

    name: str
    hubs: tuple[str, ...]
    architecture: str = ""
    traits: Mapping[str, Any] = {}
    head_channels: int | None = None
    pooling: Pooling = "own"
    preprocess: Mapping[str, Any] = {}


H_OPTIMUS = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}

FAMILIES = (
    Family("UNI2-h", ("mahmoodlab/uni2-h",), "vit_giant_patch14_224", {"registers": 8}, head_channels=64),
    Family(
        "Virchow", ("paige-ai/virchow", "paige-ai/virchow2"), "vit_huge_patch14_224", {"packed": True}, pooling="class+patches"
    ),
    Family("H-optimus", ("bioptimus/h-optimus-0", "bioptimus/h-optimus-1"), preprocess=H_OPTIMUS),
    Family(
        "GigaPath", ("prov-gigapath/prov-gigapath",), "vit_giant_patch14_dinov2", {"patch": 16}, preprocess={"resize_to": 256}
    ),
)


def family_of(hub_id: str | None, architecture: str, structure: Structure | None) -> Family | None:
    """The row for a hub id, or for an architecture whose weights show the row's traits; None for all other models."""
    for family in FAMILIES:
        if hub_id is not None and hub_id.lower() in family.hubs:
            return family
    for family in FAMILIES:
        traits = family.traits.items()
        if (
            family.architecture == architecture
            and structure is not None
            and all(getattr(structure, trait) == value for trait, value in traits)
        ):
            return family
    return None
