"""Equal weights do not make equal models: what else decides is in the hash, and what does not is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import transformers
from torch import nn

from edgefm.models import load_model
from edgefm.spec.preprocess import Preprocess

from .conftest import TINY_VIT, randomise, write_timm_folder

FILE = """
import torch
from edgefm.spec.preprocess import Preprocess

class Small(torch.nn.Module):
    preprocess = Preprocess(size=8, resize_to=8)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean(dim=(2, 3)) * self.scale

def teacher():
    return Small()
"""
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
Hashes = tuple[str, str]


def hashes(source: Any, **options: Any) -> Hashes:
    """Of the weights, and of all else."""
    model = load_model(source, **options)
    return model.sha256, model.structure


def of_file(folder: Path, changed: bool) -> Hashes:
    file = folder / "models.py"
    file.write_text(FILE.replace("x.mean", "x.amax") if changed else FILE)
    return hashes(f"{file}:teacher", trust_remote_code=True)


def of_timm(folder: Path, changed: bool, before: dict[str, Any], after: dict[str, Any]) -> Hashes:
    arguments = TINY_VIT | (after if changed else before)
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments))
    return hashes(write_timm_folder(folder / "timm", "vit_tiny_patch16_224", model, model_args=arguments))


def of_transformers(folder: Path, changed: bool, before: dict[str, Any], after: dict[str, Any]) -> Hashes:
    model = randomise(transformers.ViTModel(transformers.ViTConfig(image_size=28, patch_size=14, **SIZES)))
    model.save_pretrained(folder / "hf")
    config = json.loads((folder / "hf" / "config.json").read_text())
    (folder / "hf" / "config.json").write_text(json.dumps(config | (after if changed else before)))
    return hashes(folder / "hf")


CASES: list[tuple[Callable[..., Hashes], dict[str, Any], dict[str, Any]]] = [
    (of_file, {}, {}),
    (of_timm, {"global_pool": "avg"}, {"global_pool": "max"}),
    (of_timm, {"act_layer": "gelu"}, {"act_layer": "relu"}),
    (of_timm, {"num_heads": 2}, {"num_heads": 4}),
    (of_transformers, {"num_attention_heads": 2}, {"num_attention_heads": 4}),
    (of_transformers, {"hidden_act": "gelu"}, {"hidden_act": "relu"}),
    (of_transformers, {"layer_norm_eps": 1e-6}, {"layer_norm_eps": 1e-2}),
]


@pytest.mark.parametrize(("of", "before", "after"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_models_of_equal_weights_that_answer_otherwise_differ(
    tmp_path: Path, of: Callable[..., Hashes], before: dict[str, Any], after: dict[str, Any]
) -> None:
    settings = [each for each in (before, after) if each]
    first, again, other = (of(tmp_path, changed, *settings) for changed in (False, False, True))
    assert first == again
    assert first[0] == other[0]
    assert first[1] != other[1]


def test_a_tap_and_another_pooling_are_seen(tiny_vit_folder: Path) -> None:
    whole, first, second = (hashes(tiny_vit_folder, tap=tap)[1] for tap in (None, "blocks.0", "blocks.1"))
    assert len({whole, first, second}) == 3
    module = load_model(tiny_vit_folder).module
    module.preprocess = Preprocess(size=32, resize_to=32)  # type: ignore[assignment]
    own = hashes(module)[1]
    module.pooling = "class+patches"  # type: ignore[assignment]
    assert hashes(module)[1] != own


def test_where_a_folder_lies_and_whether_a_model_trains_or_shows_tokens_is_no_difference(
    tmp_path: Path, tiny_vit_folder: Path
) -> None:
    before = hashes(tiny_vit_folder)
    tiny_vit_folder.rename(tmp_path / "elsewhere")
    assert hashes(tmp_path / "elsewhere") == before
    module: Any = load_model(tmp_path / "elsewhere").module
    module.preprocess = Preprocess(size=32, resize_to=32)
    quiet = hashes(module)
    module.tokens = True
    assert hashes(module.train()) == quiet


def test_a_function_among_the_settings_is_known_by_its_name_and_not_by_its_address() -> None:
    def module(act: Any) -> nn.Module:
        made = nn.TransformerEncoderLayer(8, 2, activation=act)
        made.preprocess = Preprocess(size=8, resize_to=8)  # type: ignore[assignment]
        return made

    gelu, again, relu = (hashes(module(act)) for act in (nn.functional.gelu, nn.functional.gelu, nn.functional.relu))
    assert gelu[1] == again[1] != relu[1]
