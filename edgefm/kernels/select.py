"""Which implementation of an operator runs where, and why.

Not the implementations. Each is a module `edgefm.kernels.<backend>.<operator>`, imported when it is first chosen. A backend of
SOME takes some calls only: its modules say which in words (SERVES) and, asked about a call (`refuses`), why not. Where it takes
none, or a gradient is wanted, the next one runs.

    EDGEFM_KERNELS=reference                       one backend for all operators that have it
    EDGEFM_KERNELS=attention=reference,lora=triton  one each
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch

from ..errors import InputError

VARIABLE = "EDGEFM_KERNELS"
SAID = f"{VARIABLE} says so"
# operator -> backends that have it, the first that can run is taken; `reference` runs everywhere
IMPLEMENTED: dict[str, tuple[str, ...]] = {
    "attention": ("triton", "cuda", "reference"),
    "attention_int8": ("cpu", "reference"),
    "attention_kl": ("triton", "reference"),
    "linear_int8": ("cpu", "reference"),
    "lora": ("cuda", "triton", "reference"),
}
SOME = ("cuda",)


@dataclass(frozen=True)
class Choice:
    """The backend of an operator on a device, and the reason in a few words."""

    operator: str
    backend: str
    reason: str


def choose(operator: str, device: torch.device, call: tuple[Any, ...] | None = None) -> Choice:
    """The backend that runs `operator` for tensors on `device`.

    Args:
        call: what `refuses` of the operator's modules in SOME is asked about; None: any call, so that of SOME none will do.

    Raises:
        InputError: EDGEFM_KERNELS names a backend or an operator that there is not, or one that cannot run here or this call.
    """
    forced = _forced(operator)
    reasons: list[str] = []
    for backend, found in _in_turn(operator, device):
        if found is None and backend in SOME:
            module = _module(backend, operator)
            if call is not None:
                found = module.refuses(*call, asked=forced is not None)
            elif forced is not None:
                found = f"it serves {module.SERVES}, and no other call"
            else:
                continue
        if found is None:
            return Choice(operator, backend, SAID if forced is not None else "; ".join(reasons) or "the fastest here")
        reasons.append(f"not {backend}: {found}")
    if forced is None:
        raise AssertionError(f"{operator} has no reference")
    found = reasons[0].partition(": ")[2]
    raise InputError(f"{VARIABLE} asks for {forced}, but {found}", do=f"unset {VARIABLE}, or name another backend")


def implementation(operator: str, device: torch.device, call: tuple[Any, ...] | None = None) -> ModuleType:
    """The module that `choose` names."""
    some, rest = _modules(operator, device, os.environ.get(VARIABLE), interpreted())
    if some is not None and call is not None and some.refuses(*call, asked=rest is None) is None:
        return some
    return rest if rest is not None else _module(choose(operator, device, call).backend, operator)


@lru_cache(maxsize=64)
def _modules(
    operator: str, device: torch.device, asked: str | None, interpreted: bool
) -> tuple[ModuleType | None, ModuleType | None]:
    """The module of SOME that is asked first, if there is one, and the one for any other call, if one is allowed.

    Looked for once: looking takes 0.1 ms, and every layer asks twice a step. `asked`, `interpreted`: what it depends on."""
    some = _some(operator, device)
    if some is None:
        return None, _module(choose(operator, device).backend, operator)
    rest = None if _forced(operator) == some else _module(choose(operator, device).backend, operator)
    return _module(some, operator), rest


def table(device: torch.device) -> list[Choice]:
    """What would run for each operator, for `edgefm doctor`; of a backend of SOME what for, and what runs else."""
    return [_told(operator, device) for operator in IMPLEMENTED]


def _told(operator: str, device: torch.device) -> Choice:
    some = _some(operator, device)
    if some is None:
        return choose(operator, device)
    serves = _module(some, operator).SERVES
    if _forced(operator) == some:
        return Choice(operator, some, f"{SAID}; it serves {serves}, and no other call")
    rest = choose(operator, device)
    return Choice(operator, some, f"{serves}; else {rest.backend}: {rest.reason}")


def _some(operator: str, device: torch.device) -> str | None:
    """The backend of SOME that can run on `device`, unless one that takes any call comes before it."""
    able = next((backend for backend, found in _in_turn(operator, device) if found is None), None)
    return able if able in SOME else None


def _in_turn(operator: str, device: torch.device) -> Iterator[tuple[str, str | None]]:
    """The backends in their order, or that which is asked for by name, each with what keeps it from running on `device`."""
    forced = _forced(operator)
    for backend in IMPLEMENTED[operator] if forced is None else (forced,):
        yield backend, _obstacle(backend, device, asked=forced is not None)


def _module(backend: str, operator: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{backend}.{operator}")


def _obstacle(backend: str, device: torch.device, *, asked: bool) -> str | None:
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
        name, found, value = (each.strip() for each in part.rpartition("="))
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
