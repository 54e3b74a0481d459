"""Where there is no GPU, Triton's kernels run in its interpreter: it must be asked for before they are first imported."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def lora_device(request, monkeypatch):
    """The device, with Triton chosen for LoRA on it."""
    pytest.importorskip("triton")
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("here is a GPU: Triton compiles, its interpreter is not used")
    monkeypatch.setenv("EDGEFM_KERNELS", "lora=triton")
    return torch.device(request.param)
