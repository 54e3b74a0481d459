"""Instruction sets, the oldest first: what tells that a processor has one, what is beyond it, and what can be held to it.

Not the finding of features (`cpu.py`), and no emulation: what a processor lacks it cannot imitate, and ONNX Runtime has no cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .cpu import cpu_features


class InstructionSet(NamedTuple):
    """One of them.

    Attributes:
        feature: the one of `cpu.FEATURES` that a processor with this set has. beyond: those that it does not have.
        openvino: the word that holds OpenVINO to it (see `openvino_cap`), and
        own: the word of EDGEFM_ISA that holds the native engine and the preparation of images to it; None where there is none.
        bf16: whether a processor with nothing beyond it computes in bf16.
    """

    feature: str
    beyond: tuple[str, ...]
    openvino: str | None = None
    own: str | None = None
    bf16: bool = False

    def here(self) -> bool:
        """Whether this processor has it."""
        return cpu_features().get(self.feature, False)

    def held_back(self) -> list[str]:
        """What this processor has beyond it, and would not use if held to it."""
        features = cpu_features()
        return [name for name in self.beyond if features.get(name)]


SETS: Mapping[str, InstructionSet] = {
    "sse41": InstructionSet("sse4_2", ("avx",), "SSE41", "sse41"),
    "avx2": InstructionSet("avx2", ("avx_vnni", "avx512f"), "AVX2", "avx2"),
    "avx_vnni": InstructionSet("avx_vnni", ("avx512f",), "AVX2_VNNI", "avx_vnni"),
    "avx512": InstructionSet("avx512f", ("avx512_vnni", "avx512_bf16", "amx_tile"), "AVX512_CORE", "avx512"),
    "avx512_vnni": InstructionSet("avx512_vnni", ("avx512_bf16", "amx_tile"), "AVX512_CORE_VNNI", "avx512_vnni"),
    "avx512_bf16": InstructionSet("avx512_bf16", ("avx512_fp16", "amx_tile"), "AVX512_CORE_BF16", "avx512_vnni", bf16=True),
    "neon": InstructionSet("asimd", ("asimddp", "i8mm")),
    "neon_dotprod": InstructionSet("asimddp", ("i8mm",)),
}


def caps() -> list[InstructionSet]:
    """Those that OpenVINO can be held to here, and that hold something of this processor back, from the oldest on."""
    return [each for each in SETS.values() if each.openvino is not None and each.here() and each.held_back()]


def held_to(cap: InstructionSet) -> dict[str, str]:
    """The environment in which OpenVINO, the native engine and the preparation of images use nothing beyond a set of `caps`."""
    return openvino_cap(str(cap.openvino)) | {"EDGEFM_ISA": str(cap.own)}


def openvino_cap(word: str) -> dict[str, str]:
    """The environment in which OpenVINO uses no newer instructions than `word`, such as "AVX2", as oneDNN calls them.

    OpenVINO 2026.4 computes with oneDNN and with kernels of its own, and each reads its own variable: with oneDNN's alone the
    others stayed at AVX-512, and an int8 model was not loaded at all.
    """
    return dict.fromkeys(("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA"), word)
