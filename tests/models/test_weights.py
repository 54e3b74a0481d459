"""Weights files: damaged, dangerous, of another model; and the ways in which good ones are packed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.weights import read_weights, state_sha256

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Payload:
    """What an attacker puts into a checkpoint: unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def pickled(folder: Path, content: object) -> Path:
    (folder / "model.safetensors").unlink(missing_ok=True)
    torch.save(content, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("hidden", [False, True], ids=["bare", "beside weights"])
def test_a_pickle_that_wants_to_execute_code_is_refused_and_does_not_run(
    tiny_vit_folder: Path, tiny_vit: nn.Module, tmp_path: Path, hidden: bool
) -> None:
    payload = Payload(f"touch {tmp_path / 'ran'}")
    pickled(tiny_vit_folder, {"model": tiny_vit.state_dict(), "args": payload} if hidden else payload)
    with pytest.raises(InputError, match=r"could run code, so it is not loaded.*Ask its author for safetensors\.$"):
        load_model(tiny_vit_folder)
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused(tiny_vit_folder: Path, tiny_vit: nn.Module) -> None:
    with pytest.raises(InputError, match="holds more than weights"):
        load_model(pickled(tiny_vit_folder, tiny_vit))


def test_a_pickle_without_tensors_is_refused(tiny_vit_folder: Path) -> None:
    with pytest.raises(InputError, match="holds no dictionary of tensors"):
        load_model(pickled(tiny_vit_folder, {"epoch": 3}))


@pytest.mark.parametrize("wrap", ["plain", "model", "state_dict", "module.", "_orig_mod.module."])
def test_checkpoints_load_however_training_loops_wrap_them(tiny_vit_folder: Path, tiny_vit: nn.Module, wrap: str) -> None:
    state = dict(tiny_vit.state_dict())
    if wrap.endswith("."):
        content: object = {wrap + key: value for key, value in state.items()}
    else:
        content = state if wrap == "plain" else {wrap: state, "args": argparse.Namespace(lr=1), "epoch": 1}
    loaded = load_model(pickled(tiny_vit_folder, content))
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).logits, tiny_vit(X))


def test_a_truncated_safetensors_file_is_refused_at_any_length(tiny_vit_folder: Path) -> None:
    file = tiny_vit_folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match="is not a whole safetensors file"):
            load_model(tiny_vit_folder)


def test_a_truncated_pickle_is_refused(tiny_vit_folder: Path, tiny_vit: nn.Module) -> None:
    file = pickled(tiny_vit_folder, tiny_vit.state_dict()) / "pytorch_model.bin"
    whole = file.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError):
            load_model(tiny_vit_folder)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_keys_that_do_not_fit_are_named(tiny_vit_folder: Path, fault: str) -> None:
    file = tiny_vit_folder / "model.safetensors"
    state = load_file(file)
    if fault == "missing":
        del state["norm.bias"]
    elif fault == "unexpected":
        state["stowaway"] = torch.zeros(1)
    else:
        state["norm.bias"] = torch.zeros(5)
    save_file(state, file)
    name = "stowaway" if fault == "unexpected" else "norm.bias"
    with pytest.raises(InputError, match=rf"do not fit the architecture: 1 {fault} \({name}"):
        load_model(tiny_vit_folder)


def test_only_the_first_keys_are_named(tiny_vit_folder: Path) -> None:
    save_file({"nothing": torch.zeros(1)}, tiny_vit_folder / "model.safetensors")
    with pytest.raises(InputError) as refusal:
        load_model(tiny_vit_folder)
    assert "…" in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_safetensors_are_preferred_to_a_pickle(tiny_vit_folder: Path, tmp_path: Path) -> None:
    torch.save(Payload(f"touch {tmp_path / 'ran'}"), tiny_vit_folder / "pytorch_model.bin")
    load_model(tiny_vit_folder)
    assert not (tmp_path / "ran").exists()


def test_weights_in_shards_are_put_together(tiny_vit_folder: Path, tiny_vit: nn.Module) -> None:
    state = load_file(tiny_vit_folder / "model.safetensors")
    (tiny_vit_folder / "model.safetensors").unlink()
    parts = {"model-00001-of-00002.safetensors": list(state)[:5], "model-00002-of-00002.safetensors": list(state)[5:]}
    for name, keys in parts.items():
        save_file({key: state[key] for key in keys}, tiny_vit_folder / name)
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (tiny_vit_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_model(tiny_vit_folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).logits, tiny_vit(X))
    assert loaded.sha256 == state_sha256(loaded.module.state_dict())
    (tiny_vit_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"lists model-00002-of-00002\.safetensors, which is not beside it"):
        load_model(tiny_vit_folder)


def test_an_index_may_not_point_outside_its_folder(tiny_vit_folder: Path) -> None:
    (tiny_vit_folder / "model.safetensors").rename(tiny_vit_folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"norm.bias": "../elsewhere.safetensors"}}
    (tiny_vit_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="which is not beside it"):
        load_model(tiny_vit_folder)


def test_several_unknown_weights_files_are_refused(tiny_vit_folder: Path) -> None:
    state = load_file(tiny_vit_folder / "model.safetensors")
    (tiny_vit_folder / "model.safetensors").unlink()
    for name in ("epoch1.safetensors", "epoch2.safetensors"):
        save_file(state, tiny_vit_folder / name)
    with pytest.raises(InputError, match=r"several weights files \(epoch1.safetensors, epoch2.safetensors\)"):
        load_model(tiny_vit_folder)


def test_half_precision_is_widened_and_counters_are_not(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}, tmp_path / "w.safetensors")
    state = read_weights([tmp_path / "w.safetensors"])
    assert (state["w"].dtype, state["n"].dtype) == (torch.float32, torch.int64)
