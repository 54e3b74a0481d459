"""What `attention_kl`'s kernels become on every card, without one: matrix instructions, memory that fits, no spills.

In 16 bits. The exact fp32 product has no matrix instructions by intention and is only held to shared memory.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

CARDS = {80: (8, 0), 86: (8, 6), 89: (8, 9), 90: (9, 0), 120: (12, 0)}
KERNELS = ("lse", "rows", "columns", "mean_rows", "mean_columns")
FLOATS = {"parts", "lse", "mean", "lse_s", "lse_t", "share", "acc", "g"}
SCALARS = {"scale", "scale_s", "scale_t", "weight", "slope"}
SIZES = {"H", "HS", "HT", "N"}


def built(name: str, card: int, kind: str, width: int):
    from edgefm.kernels.triton import attention_kl as module

    from .aot import compiled

    kernel = {
        "lse": module.lse_kernel,
        "rows": module.pairs_rows_kernel,
        "columns": module.pairs_columns_kernel,
        "mean_rows": module.mean_rows_kernel,
        "mean_columns": module.mean_columns_kernel,
    }[name]
    how = module.tile(name, width, 4 if kind == "fp32" else 2, CARDS[card])
    constants = {"LENGTHS": False, "PAIRS": False, "GRADIENT": True, "MEAN": True, "BM": how.rows, "BN": how.columns}
    constants |= dict.fromkeys(("D", "BD", "DS", "BDS", "DT", "BDT"), width)
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    types = {}
    for key in set(kernel.arg_names) - set(constants):
        if key in FLOATS:
            types[key] = "*fp32:16"
        elif key in ("lengths", "pairs"):
            types[key] = "*i32:16"
        elif key in SCALARS:
            types[key] = "fp32"
        elif key in SIZES:
            types[key] = "i32"
        else:
            types[key] = f"*{kind}:16" if key in {"q", "k", "near", "dq", "dk", "q_s", "k_s", "q_t", "k_t"} else "i32:16"
    return compiled(kernel, types, constants, card, warps=how.warps, stages=how.stages)


def held(name: str, card: int, kind: str, width: int) -> None:
    from .aot import SHARED_KIB

    result = built(name, card, kind, width)
    assert result.shared <= SHARED_KIB[card] * 1024
    assert result.matrix or kind == "fp32"
    assert not result.spilled or kind == "fp32", result


@pytest.mark.parametrize("name", KERNELS)
def test_on_an_h100_heads_of_64_in_bf16(name):
    held(name, 90, "bf16", 64)


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", KERNELS)
def test_on_every_card(name, card, kind, width):
    held(name, card, kind, width)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", KERNELS)
def test_fp32_and_the_widest_heads_fit(name, card):
    held(name, card, "fp32", 64)
    held(name, card, "fp32", 256)
