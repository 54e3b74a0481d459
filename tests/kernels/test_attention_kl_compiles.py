"""What `attention_kl`'s kernels become on every card, without one: matrix instructions, memory that fits, no spills.

The widest heads, of more than 128 and in fp32 of more than 64, may spill a little. Each test compiles in a process of its own:
where TRITON_INTERPRET is set, nothing compiles.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

CARDS = {80: (8, 0), 86: (8, 6), 89: (8, 9), 90: (9, 0), 120: (12, 0)}
FEW = 256  # bytes a thread that the widest heads may spill
KERNELS = ("lse", "rows", "columns", "mean_rows", "mean_columns")
FLOATS = {"parts", "lse", "mean", "lse_s", "lse_t", "share", "acc", "g"}
SCALARS = {"scale", "scale_s", "scale_t", "weight", "slope"}
SIZES = {"H", "HS", "HT", "N"}


def built(name: str, card: int, kind: str, width: int):
    from edgefm.kernels.triton import attention_kl as module
    from tests.kernels.aot import build

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
            types[key] = "*fp32"
        elif key in ("lengths", "pairs"):
            types[key] = "*i32"
        elif key in SCALARS:
            types[key] = "fp32"
        elif key in SIZES:
            types[key] = "i32!"
        else:
            types[key] = f"*{kind}" if key in {"q", "k", "near", "dq", "dk", "q_s", "k_s", "q_t", "k_t"} else "i32"
    return build(kernel, types, constants, card, how.warps, how.stages)


def faults(name: str, card: int, kind: str, width: int) -> list[str]:
    """What is wrong with one kernel on one card."""
    from tests.kernels.aot import SHARED

    result = built(name, card, kind, width)
    allowed = FEW if width > (64 if kind == "fp32" else 128) else 0
    sound = result.matrix and result.shared <= SHARED[card] and result.spills <= allowed
    return [] if sound else [f"{name} {card} {kind} {width}: {result}"]


def hold(card: int, kind: str, *widths: int) -> None:
    """Compile all kernels in another process and hold them to what they should be."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    command = [sys.executable, __file__, str(card), kind, *map(str, widths)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_on_an_h100_heads_of_64_in_bf16():
    hold(90, "bf16", 64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("card", CARDS)
def test_on_every_card(card, kind):
    hold(card, kind, 16, 32, 64, 128)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
def test_fp32_and_the_widest_heads_fit(card):
    hold(card, "fp32", 64, 128)
    hold(card, "bf16", 256)


if __name__ == "__main__":
    card, kind, *widths = sys.argv[1:]
    wrong = [line for name in KERNELS for width in widths for line in faults(name, int(card), kind, int(width))]
    sys.exit("\n".join(wrong) if wrong else 0)
