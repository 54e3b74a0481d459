"""Who is recognised by which sign, and nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import timm

from edgefm.models.families import FAMILIES, family_of
from edgefm.models.vit_keys import Structure
from edgefm.spec.preprocess import Preprocess


def seen(**traits: Any) -> Structure:
    """What the weights show; only these traits are asked for."""
    return cast(Structure, SimpleNamespace(**({"registers": 0, "packed": False, "patch": 14} | traits)))


@pytest.mark.parametrize(
    ("architecture", "traits", "name"),
    [
        ("vit_giant_patch14_224", {"registers": 8}, "UNI2-h"),
        ("vit_huge_patch14_224", {"packed": True}, "Virchow"),
        ("vit_giant_patch14_dinov2", {"patch": 16}, "GigaPath"),
        ("vit_giant_patch14_224", {"registers": 4}, None),
        ("vit_huge_patch14_224", {}, None),
        ("vit_giant_patch14_dinov2", {"patch": 14}, None),
        ("vit_tiny_patch16_224", {"registers": 8, "packed": True, "patch": 16}, None),
    ],
)
def test_an_architecture_needs_the_traits_too(architecture: str, traits: dict[str, Any], name: str | None) -> None:
    family = family_of(None, architecture, seen(**traits))
    assert (family and family.name) == name
    assert family_of(None, architecture, None) is None


def test_a_hub_id_is_enough_in_any_letters_and_goes_before_the_weights() -> None:
    known = {"MahmoodLab/UNI2-h": "UNI2-h", "paige-ai/Virchow2": "Virchow", "BIOPTIMUS/h-optimus-1": "H-optimus"}
    for hub_id, name in known.items():
        family = family_of(hub_id, "vit_giant_patch14_dinov2", seen(patch=16))
        assert family is not None
        assert family.name == name
    assert family_of("someone/uni2-h-finetuned", "resnet18", None) is None


def test_the_rows_name_what_is_there() -> None:
    hubs = [hub for family in FAMILIES for hub in family.hubs]
    assert len(set(hubs)) == len(hubs)
    assert all(hub == hub.lower() for hub in hubs)
    for family in FAMILIES:
        assert not family.architecture or timm.is_model(family.architecture)
        assert set(family.traits) <= set(Structure._fields)
        assert set(family.preprocess) <= set(Preprocess.__struct_fields__)
