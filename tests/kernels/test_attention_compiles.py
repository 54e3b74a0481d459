"""The kernels of attention compile for each card they are meant for: matrix instructions, within its memory, no spills."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

# bytes that fp32 may spill: no blocks were found without them, beside three products and the masks of heads of 65 to 127
FEW = {("rows", "fp32", 80): 48, ("tiles", "fp32", 128): 20}
KERNELS = ("forward", "importance", "rows", "columns", "tiles", "cls_row")
CARDS = (80, 86, 89, 90, 120)
HERE = Path(__file__)


@pytest.mark.parametrize(
    ("cards", "dtypes"),
    [
        pytest.param((86, 90), ("bf16",), id="bf16 on cc 8.6 and 9.0"),
        pytest.param(CARDS, ("fp16", "bf16", "fp32"), id="every type on every card", marks=pytest.mark.slow),
    ],
)
def test_every_kernel_compiles_with_matrix_instructions_in_the_cards_memory_without_spills(cards, dtypes):
    """In a process of its own: where TRITON_INTERPRET is set, nothing compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = str(HERE.parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    command = [sys.executable, str(HERE), ",".join(map(str, cards)), ",".join(dtypes)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def faults(cards: tuple[int, ...], dtypes: tuple[str, ...]) -> list[str]:
    """What is wrong, one line a kernel; the whole of what compiles is printed."""
    from edgefm.kernels.triton import attention as launcher
    from tests.kernels import aot

    found = []
    types_of = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    for kernel in KERNELS:
        function = getattr(launcher, f"{kernel}_kernel")
        for dtype in dtypes:
            for d in (64, 80, 128):
                for card in cards:
                    # one row of the map has no use for matrix instructions
                    like = "forward" if kernel == "cls_row" else kernel
                    size = launcher.table(like, types_of[dtype], d, hopper=card == 90)
                    constants, _ = launcher.constants(like, types_of[dtype], d, size)
                    if kernel == "cls_row":
                        constants = {"D": d, "DP": constants["DP"], "COLS": launcher.CLS_ROW_COLS}
                        size = launcher.Blocks(1, launcher.CLS_ROW_COLS, 4, 3)
                    # the fullest variant: each switch adds registers
                    switches = {name: True for name in ("BIAS", "BIAS_GRADIENT", "CLS_ROW") if name in function.arg_names}
                    types = signature(function.arg_names, dtype)
                    result = aot.build(function, types, {**constants, **switches}, card, size.warps, size.stages)
                    line = f"{kernel} {dtype} D={d} cc={card} {size} {result}"
                    print(line)
                    allowed = FEW.get((kernel, dtype, d), 0)
                    matrix = kernel != "cls_row"
                    if result.matrix != matrix or result.spills > allowed or result.shared > aot.SHARED[card]:
                        found.append(line)
    return found


def signature(names: list[str], dtype: str) -> dict[str, str]:
    """The type of each argument, as the launcher would see it for tensors of `dtype` and an odd N."""
    tensors = {"q", "k", "v", "bias", "out", "d_out", "dq", "dk", "dv", "d_bias"}
    wide = {"lse", "d_lse", "delta", "importance", "cls_row", "d_cls_row"}
    numbers = {"n", "heads", "planes", "bias_heads", "repeats", "share"}
    types = {}
    for name in names:
        if name in tensors:
            types[name] = f"*{dtype}"
        elif name in wide:
            types[name] = "*fp32"
        elif name == "scale":
            types[name] = "fp32"
        else:
            types[name] = "i32!" if name in numbers else "i32"
    return types


if __name__ == "__main__":
    wrong = faults(tuple(map(int, sys.argv[1].split(","))), tuple(sys.argv[2].split(",")))
    sys.exit("\n".join(wrong) if wrong else 0)
