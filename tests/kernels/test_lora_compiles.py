"""LoRA's kernels on cards that are not here: matrix instructions, shared memory that fits, no spills. Nothing is run.

fp32 is exact, so without matrix instructions; it may spill.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")
MATRIX = ("narrow", "tall", "product", "pass")


def built(root, *words: str) -> list[dict]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.lora_builds", *words]
    lines = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def check(kernels: list[dict]) -> None:
    from .aot import SHARED

    for kernel in kernels:
        product, exact = kernel["name"].startswith(MATRIX), kernel["type"] == "fp32"
        assert kernel["matrix"] == (product and not exact), kernel
        assert kernel["shared"] <= SHARED[kernel["capability"]], kernel
        assert exact or kernel["spills"] == 0, kernel
        assert not (product and kernel["byte_loads"]), kernel  # the mask would be loaded element by element, inside the loop


def test_the_kernels_of_plain_rank_16_fit_a_small_card_and_do_not_spill(root):
    check(built(root, "86", "product 128 r16 gelu index0 back0", "narrow across r16 drop1", "nf4"))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 86, 89, 90, 120])
def test_every_kernel_fits_and_does_not_spill(root, capability):
    check(built(root, str(capability)))
