"""The CUDA sources compile for every card named, with matrix instructions, without spills; NF4 storage is bitsandbytes' own."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.cuda.attention import attention_bias
from edgefm.kernels.cuda.lora import lora_linear_int8, lora_linear_nf4
from edgefm.kernels.cuda.module import obstacle

from .cuda_cases import CODE, dequantized, int8, nf4

ARCHS = ["75", "80", "86", "89", "90", "120"]
UNITS = ["attention", "lora_linear"]
MATRIX_KERNELS = ("attention_kernel", "lora_tiles", "lora_down_tiles")


def slow_but(quick: str) -> list:
    return [arch if arch == quick else pytest.param(arch, marks=pytest.mark.slow) for arch in ARCHS]


@pytest.mark.parametrize("arch", slow_but("75"))
@pytest.mark.parametrize("unit", UNITS)
def test_every_kernel_has_matrix_instructions_and_does_not_spill(root, tmp_path, unit, arch):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the PATH")
    source, target = str(root / "csrc" / "cuda" / f"{unit}.cu"), f"-arch=sm_{arch}"
    kept = ["-std=c++17", "-O3", "-Xptxas", "-v", "-cubin", "--keep", "--keep-dir", str(tmp_path)]
    done = subprocess.run(["nvcc", *kept, target, source, "-o", f"{tmp_path}/out.cubin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert spills
    assert set(spills) == {("0", "0", "0")}
    assert max(map(int, re.findall(r"(\d+) bytes smem", said))) <= 48 * 1024

    shape = "m16n8k8" if arch == "75" else "m16n8k16"
    kernels = (tmp_path / f"{unit}.ptx").read_text().split(".entry ")[1:]
    asked = [k for k in kernels if any(name in k.split("(")[0] for name in MATRIX_KERNELS)]
    assert asked
    for kernel in asked:
        name = kernel.split("(")[0]
        if arch == "75" and "bfloat16" in name:
            continue  # refused by the bindings
        assert f"mma.sync.aligned.{shape}" in kernel, name


@pytest.mark.parametrize("archs", ["", "9.0", "sm_90"])
def test_an_architecture_that_is_none_is_refused(root, monkeypatch, archs):
    monkeypatch.setenv("EDGEFM_CUDA_ARCHS", archs)
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    monkeypatch.setenv("EDGEFM_CUDA", "0")
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit, match="EDGEFM_CUDA_ARCHS"):
        runpy.run_path("setup.py")["cuda_targets"]()


def test_asking_for_cuda_without_nvcc_is_an_error_and_not_asking_is_none(root):
    pytest.importorskip("pybind11")
    clean = {"PATH": "/nonexistent", "EDGEFM_CUDA": "1"}
    command = [sys.executable, "setup.py", "--name"]
    asked = subprocess.run(command, cwd=root, env=os.environ | clean, capture_output=True, text=True)
    assert asked.returncode
    assert "nvcc is not on the PATH" in asked.stderr
    silent = subprocess.run(command, cwd=root, env=os.environ | clean | {"EDGEFM_CUDA": "0"}, capture_output=True, text=True)
    assert silent.returncode == 0
    assert "CUDA" not in silent.stderr


def test_without_a_card_the_obstacle_is_named():
    assert "this is cpu" in str(obstacle(torch.device("cpu")))
    x = torch.zeros(2, 64, dtype=torch.float16)
    with pytest.raises(InputError, match="were asked for, but"):
        attention_bias(*[torch.zeros(1, 1, 3, 64, dtype=torch.float16)] * 3)
    with pytest.raises(InputError, match="were asked for, but"):
        lora_linear_int8(x, torch.zeros(4, 64, dtype=torch.int8), torch.ones(4), None, x[:1], torch.zeros(4, 1).half())


def test_shapes_that_do_not_fit_are_refused_before_the_card_is_asked():
    x = torch.zeros(2, 64, dtype=torch.float16)
    a, b = x[:1], torch.zeros(4, 1, dtype=torch.float16)
    with pytest.raises(InputError, match="128 bytes, and 2 tensors"):
        lora_linear_nf4(x, torch.zeros(5, dtype=torch.uint8), (torch.ones(4), CODE), None, a, b)
    with pytest.raises(InputError, match="absmax"):
        lora_linear_nf4(x, torch.zeros(128, dtype=torch.uint8), (torch.ones(3), CODE), None, a, b)
    with pytest.raises(InputError, match="fp16 or bf16"):
        lora_linear_int8(x.float(), torch.zeros(4, 64, dtype=torch.int8), torch.ones(4), None, a, b)
    q = torch.zeros(1, 2, 3, 64, dtype=torch.float16)
    with pytest.raises(InputError, match=r"a bias of .*\[1, 1, 3, 4\]"):
        attention_bias(q, q, q, torch.zeros(1, 1, 3, 4, dtype=torch.float16))


def test_nf4_storage_here_is_that_of_bitsandbytes():
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(65, 192, generator=torch.Generator().manual_seed(0))
    for nested in (False, True):
        packed, state = functional.quantize_4bit(weight, quant_type="nf4", blocksize=64, compress_statistics=nested)
        found = (state.absmax, state.code)
        if nested:
            found = (*found, state.state2.absmax, state.state2.code, state.offset.reshape(1))
            assert state.state2.blocksize == 256
        assert torch.equal(state.code, CODE)
        theirs = functional.dequantize_4bit(packed, state).double()
        assert torch.allclose(dequantized(packed, found, 65), theirs, rtol=1e-6, atol=1e-6)
        if not nested:
            ours, ours_state = nf4(weight, nested=False)
            assert torch.equal(ours_state[0], state.absmax)
            assert (ours != packed.reshape(-1)).float().mean() < 1e-3  # ties


def test_int8_is_within_half_a_step():
    weight = torch.randn(5, 64)
    q, (scale,) = int8(weight)
    assert ((dequantized(q, (scale,), 5) - weight).abs() <= 0.501 * scale[:, None]).all()
