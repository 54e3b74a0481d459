"""bf16 where it is faster, by rule and not by measurement."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.runtime import cpu
from edgefm.train import precision

CPU = torch.device("cpu")
PLAIN, DEPTHWISE = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4)


@pytest.mark.parametrize(
    ("features", "module", "training", "wanted"),
    [
        ({}, PLAIN, True, "fp32"),
        ({"amx_bf16": False, "avx512_bf16": False}, PLAIN, False, "fp32"),
        ({"avx512_bf16": True}, PLAIN, True, "bf16"),
        ({"amx_bf16": True}, PLAIN, False, "bf16"),
        ({"amx_bf16": True}, DEPTHWISE, True, "fp32"),
        ({"amx_bf16": True}, DEPTHWISE, False, "bf16"),
    ],
)
def test_the_processor_and_the_layers_decide(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], module: nn.Module, training: bool, wanted: str
) -> None:
    monkeypatch.setattr(cpu, "cpu_features", lambda: features)
    assert precision.choose_precision(nn.Sequential(module), CPU, training=training) == wanted


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "meta:x"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="--device"):
        precision.usable_device(name)


def test_each_process_of_a_machine_asks_for_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "63")
    with pytest.raises(InputError, match="--device cuda:63"):
        precision.usable_device("cuda")
    assert precision.usable_device("cpu") == CPU
