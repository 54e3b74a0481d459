"""The compiled module `edgefm._cuda`, if it was built, and what every call passes it. Not the kernels (csrc/cuda)."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch

from ...errors import InputError

TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def obstacle(device: torch.device) -> str | None:
    """Why the kernels cannot run on `device`; None if they can."""
    if device.type != "cuda":
        return f"the CUDA module runs on NVIDIA cards, this is {device.type}"
    if importlib.util.find_spec("edgefm._cuda") is None:
        return "the CUDA module is not built (EDGEFM_CUDA=1 pip install .)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) >= (7, 5) else f"compute capability {major}.{minor} is older than 7.5"


def load(device: torch.device) -> Any:
    """The module.

    Raises:
        InputError: it is not built, or does not run on `device`.
    """
    if (found := obstacle(device)) is not None:
        raise InputError(f"kernels in CUDA C++ were asked for, but {found}", do="use the reference, or build the module")
    return importlib.import_module("edgefm._cuda")


def checked(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> int:
    """The address of a contiguous tensor.

    Raises:
        InputError: another dtype, shape or device, or not contiguous.
    """
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or tensor.device != device or not tensor.is_contiguous():
        laid = "" if tensor.is_contiguous() else ", not contiguous"
        raise InputError(
            f"{name} of {tensor.dtype} {list(tensor.shape)} on {tensor.device}{laid}",
            expected=f"contiguous {dtype} {list(shape)} on {device}",
        )
    return tensor.data_ptr()


def where(device: torch.device) -> dict[str, int]:
    """The card and its current stream."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return {"device": index, "stream": torch.cuda.current_stream(device).cuda_stream}
