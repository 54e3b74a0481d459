"""Which implementation of an operator runs where, and why.

Not the implementations. Each is a module `edgefm.kernels.<backend>.<operator>`, imported when it is first chosen.

    EDGEFM_KERNELS=reference                       one backend for all operators that have it
    EDGEFM_KERNELS=attention=reference,lora=triton  one each
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import torch

from ..errors import InputError

VARIABLE = "EDGEFM_KERNELS"
# operator -> backends that have it, the first that can run is taken; `reference` runs everywhere
IMPLEMENTED: dict[str, tuple[str, ...]] = {
    "attention": ("triton", "reference"),
    "attention_int8": ("cpu", "reference"),
    "attention_kl": ("triton", "reference"),
    "linear_int8": ("cpu", "reference"),
    "lora": ("triton", "reference"),
}


@dataclass(frozen=True)
class Choice:
    """The backend of an operator on a device, and the reason in a few words."""

    operator: str
    backend: str
    reason: str


def choose(operator: str, device: torch.device) -> Choice:
    """The backend that runs `operator` for tensors on `device`.

    Raises:
        InputError: EDGEFM_KERNELS names a backend or an operator that there is not, or one that cannot run here.
    """
    forced = _forced(operator)
    if forced is not None:
        if (obstacle := _obstacle(forced, device)) is not None:
            raise InputError(f"{VARIABLE} asks for {forced}, but {obstacle}", do=f"unset {VARIABLE}, or name another backend")
        return Choice(operator, forced, f"{VARIABLE} says so")
    reasons = []
    for backend in IMPLEMENTED[operator]:
        obstacle = _obstacle(backend, device, asked=False)
        if obstacle is None:
            return Choice(operator, backend, "; ".join(reasons) or "the fastest here")
        reasons.append(f"not {backend}: {obstacle}")
    raise AssertionError(f"{operator} has no reference")


def implementation(operator: str, device: torch.device) -> ModuleType:
    """The module that `choose` names."""
    return _module(operator, device, os.environ.get(VARIABLE), interpreted())


@lru_cache(maxsize=64)
def _module(operator: str, device: torch.device, asked: str | None, interpreted: bool) -> ModuleType:
    """Looked for once: looking takes 0.1 ms, and every layer asks twice a step. `asked`, `interpreted`: what it depends on."""
    return importlib.import_module(f"{__package__}.{choose(operator, device).backend}.{operator}")


def table(device: torch.device) -> list[Choice]:
    """What would run for each operator, for `edgefm doctor`."""
    return [choose(operator, device) for operator in IMPLEMENTED]


def _obstacle(backend: str, device: torch.device, *, asked: bool = True) -> str | None:
    """Why `backend` cannot run on `device`; None if it can. `asked`: by name, so the interpreter will do."""
    if backend == "reference":
        return None
    if backend == "cpu":
        if importlib.util.find_spec("edgefm._native") is None:
            return "the C++ module is not built"
        return None if device.type == "cpu" else f"the C++ module runs on processors, this is {device.type}"
    if backend == "cuda":
        from .cuda.module import obstacle

        return obstacle(device)
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (edgefm[gpu])"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return None if major >= 8 else f"compute capability {major}.{minor} has no matrix instructions in Triton"
    if interpreted() and asked:
        return None
    return f"Triton runs on NVIDIA cards, this is {device.type}"


def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, on the CPU: TRITON_INTERPRET=1."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _forced(operator: str) -> str | None:
    backend = None
    for part in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, found, value = part.strip().rpartition("=")
        if found and name not in IMPLEMENTED:
            raise InputError(f"{VARIABLE} names the operator {name}", expected=", ".join(IMPLEMENTED))
        if found and name != operator:
            continue
        if not found and value not in IMPLEMENTED[operator] and any(value in each for each in IMPLEMENTED.values()):
            continue  # all operators that have it
        if value not in IMPLEMENTED[operator]:
            raise InputError(f"{VARIABLE} names {value} for {operator}", expected=", ".join(IMPLEMENTED[operator]))
        backend = value
    return backend
