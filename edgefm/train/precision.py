"""In which arithmetic a model runs here: bf16 autocast where it is the faster one.

Not a measurement: a run must choose the same every time.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from ..errors import InputError
from ..runtime.cpu import runs_bf16

Precision = Literal["fp32", "bf16"]


def choose_precision(module: nn.Module, device: torch.device, *, training: bool) -> Precision:
    """bf16 on GPUs that have it, and on CPUs with AMX or AVX-512 BF16; else fp32.

    Not for training depthwise convolutions on a CPU: their backward pass is slower in bf16 than in fp32
    (mobilenetv4_conv_small with AMX: 37 images/s per core against 45; a ResNet-18 gains 2.9 times).
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type != "cpu" or (training and any(map(_depthwise, module.modules()))):
        return "fp32"
    return "bf16" if runs_bf16() else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a forward pass runs at `precision`; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` on `device`, its convolutions' weights channels last: about twice as fast on CPUs, nothing to a transformer."""
    return module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def usable_device(name: str) -> torch.device:
    """The device of that name; of several processes on this machine, each gets a GPU of its own for "cuda".

    Raises:
        InputError: torch has no such device here.
    """
    local = os.environ.get("LOCAL_RANK")
    name = f"cuda:{local}" if name == "cuda" and local else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"--device {name} cannot be used here ({reason})", expected="cpu, cuda or cuda:N") from error
    return device


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
