"""Adapters in PEFT's format: what is read and what is refused. What PEFT itself makes of them: `adapt/test_peft.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefm.errors import InputError
from edgefm.models.peft_format import CONFIG, WEIGHTS, Adapter, load_adapter, save_adapter

G = torch.Generator().manual_seed(0)
ADAPTER = Adapter(
    layers={"blocks.0.attn.qkv": (torch.randn(4, 8, generator=G), torch.randn(24, 4, generator=G))},
    rank=4,
    alpha=6.5,
    dropout=0.25,
    whole={"head.weight": torch.randn(3, 8, generator=G), "head.bias": torch.randn(3, generator=G)},
    modules=("head",),
    base="vit_small_patch16_224",
)


def written(folder: Path, adapter: Adapter = ADAPTER) -> Path:
    folder.mkdir(exist_ok=True)
    save_adapter(folder, adapter)
    return folder


def change(folder: Path, **words: Any) -> Path:
    config = json.loads((folder / CONFIG).read_text()) | words
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = load_adapter(written(tmp_path / "a"))
    assert (found.rank, found.alpha, found.scale, found.dropout) == (4, 6.5, 1.625, 0.25)
    assert (found.modules, found.base) == (("head",), "vit_small_patch16_224")
    torch.testing.assert_close(found.layers["blocks.0.attn.qkv"], ADAPTER.layers["blocks.0.attn.qkv"], rtol=0, atol=0)
    torch.testing.assert_close(dict(found.whole), dict(ADAPTER.whole), rtol=0, atol=0)


def test_the_same_adapter_is_the_same_bytes(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in (CONFIG, WEIGHTS))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"peft_type": "IA3"}, 'peft_type "IA3"; expected plain LoRA'),
        ({"use_dora": True}, "use_dora true"),
        ({"use_rslora": True}, "use_rslora true"),
        ({"bias": "all"}, 'bias "all"'),
        ({"rank_pattern": {"qkv": 8}}, r'rank_pattern \{"qkv": 8\}'),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights "pissa"'),  # which changes the weights under the adapter, too
        ({"alora_invocation_tokens": [7]}, r"alora_invocation_tokens \[7\]; expected plain LoRA"),
        ({"of_next_year": {"deep": 1}}, r'of_next_year \{"deep": 1\}; expected plain LoRA'),
        ({"r": "4"}, r"adapter_config.json: Expected `int`, got `str` - at `\$\.r`"),
        ({"lora_alpha": None}, r"got `null` - at `\$\.lora_alpha`"),
        ({"base_model_name_or_path": 5}, r"got `int` - at `\$\.base_model_name_or_path`"),
        ({"r": 8}, r"A \[4, 8\] and B \[24, 4\], and adapter_config.json says r = 8"),
        ({"modules_to_save": None}, "holds base_model.model.head.(weight|bias)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_no_plain_lora_is_refused(tmp_path: Path, words: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_adapter(change(written(tmp_path / "a"), **words))


def test_a_folder_or_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no adapter_config\.json"):
        load_adapter(tmp_path)
    folder = written(tmp_path / "a")
    state = load_file(folder / WEIGHTS)
    name = "base_model.model.blocks.0.attn.qkv.lora_B.weight"
    save_file({key: value for key, value in state.items() if key != name}, folder / WEIGHTS)
    with pytest.raises(InputError, match=r"has for blocks\.0\.attn\.qkv the factors \{'A': \[4, 8\]\}"):
        load_adapter(folder)
    save_file({key: value for key, value in state.items() if "lora" not in key}, folder / WEIGHTS)
    with pytest.raises(InputError, match="holds no factors of LoRA"):
        load_adapter(folder)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_adapter(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"holds no adapter_model\.safetensors"):
        load_adapter(folder)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "a")
    state = load_file(folder / WEIGHTS)
    state["base_model.model.blocks.0.attn.qkv.lora_B.weight"][3, 1] = torch.nan
    save_file(state, folder / WEIGHTS)
    with pytest.raises(InputError, match=r"numbers in .*qkv\.lora_B\.weight that are not finite"):
        load_adapter(folder)


def test_what_says_nothing_is_no_other_method(tmp_path: Path) -> None:
    idle = {"use_dora": False, "loftq_config": {}, "init_lora_weights": "gaussian", "ensure_weight_tying": True}
    folder = change(written(tmp_path / "a"), of_next_year=None, **idle)
    assert load_adapter(folder).rank == 4
