"""Which models can be saved whole in a layout that is read again, and what stands in it. In a run: test_probe_dir.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from msgspec.structs import replace
from torch import nn

from edgefm.errors import InputError
from edgefm.models import LoadedModel, load_model
from edgefm.models.base_dir import savable, save_base, write_json
from edgefm.models.encoder import ModuleEncoder, TimmEncoder
from edgefm.spec.preprocess import Preprocess

from .conftest import TINY_VIT
from .test_hf_dir import phikon, write
from .test_open_clip import Mlp, biomedclip


def load(kind: str, folder: Path) -> LoadedModel:
    if kind == "transformers":
        write(folder, phikon())
    else:
        biomedclip(folder, Mlp())
    return load_model(folder)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_module_of_nobodys_library_cannot_be_saved(tmp_path: Path) -> None:
    module = ModuleEncoder(nn.Flatten(), classifies=False)
    assert not savable(module)
    with pytest.raises(InputError, match="a ModuleEncoder has no layout to be saved in"):
        save_base(tmp_path, module, Preprocess())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"num_classes": 0, **TINY_VIT}, {"num_classes": 0}])
def test_a_timm_model_can_be_saved_only_if_name_and_arguments_build_it(arguments: dict[str, Any]) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TINY_VIT)
    module = TimmEncoder(model, architecture="vit_tiny_patch16_224", arguments=arguments)
    assert savable(module) == ("img_size" in arguments)


@pytest.mark.parametrize("kind", ["transformers", "open_clip"])
def test_what_was_saved_is_read_again_and_is_the_same_bytes_each_time(tmp_path: Path, kind: str) -> None:
    loaded = load(kind, tmp_path / "source")
    assert savable(loaded.module)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_base(tmp_path / name, loaded.module, loaded.preprocess)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    again = load_model(tmp_path / "one")
    assert again.preprocess == loaded.preprocess
    x = torch.rand(2, 3, loaded.preprocess.size, loaded.preprocess.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again.module(x).embedding, loaded.module(x).embedding)


@pytest.mark.parametrize("resize", ["shorter", "squash"])
@pytest.mark.parametrize("filter_", ["bicubic", "bilinear"])
def test_the_preprocessing_comes_back_in_transformers_words(tmp_path: Path, resize: str, filter_: str) -> None:
    loaded = load("transformers", tmp_path / "source")
    spec = replace(loaded.preprocess, resize=resize, filter=filter_, std=(0.1, 0.2, 0.3))
    (tmp_path / "saved").mkdir()
    save_base(tmp_path / "saved", loaded.module, spec)
    assert load_model(tmp_path / "saved").preprocess == spec


def test_json_is_written_as_people_read_it_and_letters_stay_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "größer", "values": [1, None]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "größer" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "größer", "values": [1, None]}
