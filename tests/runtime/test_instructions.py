"""Instruction sets on processors of every kind: which of them hold something back, and what OpenVINO is told then."""

from __future__ import annotations

import pytest

from edgefm.runtime import instructions
from edgefm.runtime.cpu import FEATURES, cpu_features
from edgefm.runtime.instructions import SETS, caps, openvino_cap

HASWELL = ("sse4_2", "avx", "avx2", "fma", "f16c")
ALDER_LAKE = (*HASWELL, "avx_vnni")  # no AVX-512
SKYLAKE = (*HASWELL, "avx512f", "avx512bw", "avx512dq", "avx512vl")
ICE_LAKE = (*SKYLAKE, "avx512_vnni")
ZEN_4 = (*ICE_LAKE, "avx512_bf16")
SAPPHIRE_RAPIDS = (*ZEN_4, "avx_vnni", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ((), []),
        (("sse4_2",), []),
        (HASWELL, ["SSE41"]),
        (ALDER_LAKE, ["SSE41", "AVX2"]),
        (SKYLAKE, ["SSE41", "AVX2"]),
        (ICE_LAKE, ["SSE41", "AVX2", "AVX512_CORE"]),
        (ZEN_4, ["SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"]),
        (SAPPHIRE_RAPIDS, ["SSE41", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16"]),
        (("asimd", "asimddp", "i8mm"), []),  # OpenVINO has no word for them
    ],
)
def test_only_what_holds_this_processor_back_is_a_cap(monkeypatch, features, found):
    monkeypatch.setattr(instructions, "cpu_features", lambda: dict.fromkeys(features, True))
    assert [each.openvino for each in caps()] == found


def test_every_feature_that_the_table_asks_for_is_one_that_is_looked_for():
    for each in SETS.values():
        assert {each.feature, *each.beyond} <= set(FEATURES)
        assert each.feature not in each.beyond
        assert (each.openvino is None) == (each.own is None)


def test_this_processors_widest_set_is_no_cap():
    features = cpu_features()
    for each in caps():
        assert features[each.feature]
        assert any(features[name] for name in each.beyond)


def test_openvino_is_told_twice():
    assert openvino_cap("AVX2") == {"ONEDNN_MAX_CPU_ISA": "AVX2", "OV_CPU_MAX_ISA": "AVX2"}
