"""Hub ids and timm names on a machine without a network: out of the cache, or refused at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from edgefm.errors import InputError
from edgefm.models import hub, load_model
from edgefm.models.students import build_student
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

from .conftest import TINY_VIT, write_timm_folder


def test_a_hub_id_that_is_not_cached_is_refused_at_once(hub_cache: Callable[[str], Path]) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"not in this machine's cache.*run: hf download nobody/nothing --local-dir MODEL"):
        load_model("hf-hub:nobody/nothing")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("source", ["hf-hub:nobody/nothing", "resnet18"])
def test_an_unreachable_hub_costs_no_more_than_the_patience(
    hub_cache: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: threading.Event().wait())
    start = time.perf_counter()
    with pytest.raises(InputError, match="the hub cannot be reached from here"):
        load_model(source)
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("source", ["hf-hub:", "hf-hub:a/b/c", "hf-hub:../secret"])
def test_what_is_no_hub_id_is_refused(hub_cache: Callable[[str], Path], source: str) -> None:
    with pytest.raises(InputError, match=r"is not a hub id; expected hf-hub:OWNER/NAME"):
        load_model(source)


def test_a_cached_hub_model_loads_offline(hub_cache: Callable[[str], Path], tiny_vit: nn.Module) -> None:
    folder = hub_cache("lab/encoder")
    write_timm_folder(folder, "vit_tiny_patch16_224", tiny_vit, num_classes=3, model_args=TINY_VIT)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    for source in ("hf-hub:lab/encoder", "hf_hub:lab/encoder", "hf-hub:lab/encoder@main"):
        loaded = load_model(source)
        assert (loaded.name, loaded.licence) == ("lab/encoder", "cc-by-nc-4.0")


def test_one_form_of_the_weights_is_downloaded_safetensors_first() -> None:
    names = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "training_args.bin"]
    assert hub._wanted(names) == ["config.json", "README.md", "model.safetensors"]
    sharded = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors", "pytorch_model.bin"]
    assert hub._wanted(sharded) == ["config.json", *sharded[1:4]]
    assert hub._wanted(["RETFound_cfp_weights.pth"]) == ["RETFound_cfp_weights.pth"]


def test_a_timm_name_takes_its_weights_from_the_cache(hub_cache: Callable[[str], Path]) -> None:
    model = timm.create_model("test_vit.r160_in1k").eval()
    save_file(model.state_dict(), hub_cache("timm/test_vit.r160_in1k") / "model.safetensors")
    loaded = load_model("test_vit.r160_in1k")
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x).logits, model(x))
    assert loaded.preprocess == Preprocess(size=160, resize_to=168, filter="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert loaded.licence == "apache-2.0"


def test_damaged_or_foreign_weights_in_the_cache_are_refused(hub_cache: Callable[[str], Path]) -> None:
    file = hub_cache("timm/test_vit.r160_in1k") / "model.safetensors"
    save_file({"nothing": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"are not those of timm's test_vit\.r160_in1k"):
        load_model("test_vit.r160_in1k")
    file.write_bytes(b"half a file")
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_model("test_vit.r160_in1k")


def test_a_timm_name_without_weights_is_refused() -> None:
    with pytest.raises(InputError, match="timm has no weights for 'mobilenetv4_conv_small_035'"):
        load_model("mobilenetv4_conv_small_035")


def test_a_pretrained_student_starts_from_the_cached_weights_with_a_new_head(hub_cache: Callable[[str], Path]) -> None:
    model = timm.create_model("test_vit.r160_in1k").eval()
    save_file(model.state_dict(), hub_cache("timm/test_vit.r160_in1k") / "model.safetensors")
    student = build_student("test_vit", task=make_task("binary", ("a", "b")), preprocess=Preprocess(), seed=1, pretrained=True)
    torch.testing.assert_close(student.module.model.blocks[0].norm1.weight, model.blocks[0].norm1.weight)  # type: ignore[union-attr]
    assert student.licence == "apache-2.0"
    with torch.no_grad():
        logits, _, _ = student.module(torch.rand(1, 3, 160, 160))
    assert logits is not None
    assert logits.shape == (1, 2)
