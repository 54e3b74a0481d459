"""Triton for LoRA's tests, and the CUDA kernels on the processor. Not the cases themselves.

Where there is no GPU Triton's kernels run in its interpreter, which `tests/conftest.py` asks for. Triton's own library is
interpreted or compiled as it was first imported: here, before a test takes TRITON_INTERPRET away for itself.
"""

from __future__ import annotations

import contextlib

import pytest
import torch

from . import emulator

with contextlib.suppress(ImportError):
    import triton  # noqa: F401


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The CUDA kernels, compiled for the processor."""
    return emulator.built(str(tmp_path_factory.mktemp("emulated")))


@pytest.fixture
def lora_device(request, monkeypatch):
    """The device, with Triton chosen for LoRA on it."""
    pytest.importorskip("triton")
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("here is a GPU: Triton compiles, its interpreter is not used")
    monkeypatch.setenv("EDGEFM_KERNELS", "lora=triton")
    return torch.device(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The interpreter computes bf16 as fp32: what runs there in fp32 already is slow in bf16, and only that."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
        if any(value is torch.bfloat16 for value in parameters) and item.get_closest_marker("gpu") is None:
            item.add_marker(pytest.mark.slow)
