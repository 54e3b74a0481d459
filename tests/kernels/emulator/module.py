"""`edgefm._cuda` as the processor runs it: the bindings' functions on the emulated kernels. Not the bindings' own checks."""

from __future__ import annotations

import ctypes
from typing import Any

from . import Attention, Heads, LoraLinear

ACTIVATIONS = ("none", "gelu", "silu")


class Module:
    """lora_workspace, lora_linear and attention, with the arguments of csrc/cuda/bindings.cpp. `called`: which of them ran."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.called: list[str] = []

    def lora_workspace(self, rows: int, inner: int, outer: int, rank: int, device: int) -> tuple[int, int, int]:
        return 1, 4 * rows * (rank + 16), 0

    def lora_linear(self, *, kind: str, type: str, absmax: int, activation: str, device: int, stream: int, **rest: Any) -> None:
        p = LoraLinear(**rest, plain=absmax, activation=ACTIVATIONS.index(activation))
        self.library.emulated_lora(ctypes.byref(p), int(kind == "int8"), int(type == "bf16"))
        self.called.append(kind)

    def attention(
        self, *, type: str, batch: int, heads: int, tokens: int, head_size: int, device: int, stream: int, **rest: Any
    ):
        scale, bias_fp32 = rest.pop("scale"), rest.pop("bias_fp32")
        p = Attention(**{name: Heads(*each) for name, each in rest.items()}, scale=scale, bias_fp32=bias_fp32)
        p.batch, p.heads, p.tokens, p.head_size = batch, heads, tokens, head_size
        self.library.emulated_attention(ctypes.byref(p), int(type == "bf16"), 0)
        self.called.append("attention")
