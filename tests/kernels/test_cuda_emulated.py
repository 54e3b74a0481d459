"""The CUDA kernels' arithmetic, run on the processor thread by thread: every index, fragment and barrier, but no card."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from . import emulator
from .cuda_cases import CODE, attention_plain, attention_problem, dequantized, held, lora_plain, lora_problem

TYPES = [torch.float16, torch.bfloat16]


def as_floats(bits: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.int16).copy()).view(dtype).float()


def look_up(call, words: np.ndarray, each: int, dtype: torch.dtype) -> torch.Tensor:
    out = np.zeros(len(words) * each, np.uint32)
    call(words.ctypes.data_as(emulator.P), len(words), int(dtype == torch.bfloat16), out.ctypes.data_as(emulator.P))
    return as_floats(out, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_nibbles_become_codes_in_order_and_their_rounding_cancels(library, dtype):
    stored = np.random.default_rng(0).integers(0, 256, 4 * 4096, dtype=np.uint8)
    found = look_up(library.emulated_nf4, stored.view(np.uint32), 4, dtype)
    index = torch.from_numpy(np.stack([stored >> 4, stored & 15], 1).reshape(-1)).long()
    rounding = torch.finfo(dtype).eps * CODE.abs()
    assert ((found - CODE[index]).abs() <= rounding[index]).all()
    weights = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    absmax = weights.abs().amax(1, keepdim=True)
    q = ((weights / absmax)[..., None] - CODE).abs().argmin(-1)
    table = torch.stack([found[index == i][0] for i in range(16)])
    assert ((table - CODE)[q] * absmax).mean().abs() < 0.01 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_all_int8_values_are_exact(library, dtype):
    values = np.arange(-128, 128, dtype=np.int8)
    assert look_up(library.emulated_int8, values.view(np.uint32), 2, dtype).tolist() == values.tolist()


def test_reads_of_the_staged_rows_meet_no_bank_conflict(library):
    assert all(library.emulated_conflicts(8 * quarter, half) == 1 for quarter in range(4) for half in range(2))


CASES = [
    # rows, inner, outer, rank, splits: rows at 8 | 9, odd, more than a tile; inner of one step; outer past a tile
    (1, 64, 5, 1, 1),
    (3, 576, 9, 16, 1),
    (8, 1088, 11, 128, 1),
    (9, 64, 7, 1, 1),
    (37, 192, 130, 16, 1),
    (9, 1216, 33, 40, 1),
    (17, 576, 3, 0, 3),
    pytest.param((67, 320, 129, 128, 2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "int8"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_lora_linear_is_as_right_as_plain_torch(library, case, kind, dtype):
    *sizes, splits = case
    x, stored, state, bias, a, b = lora_problem(*sizes, kind, dtype)
    w = dequantized(stored, state, len(b))
    found = emulator.lora(library, x, stored, state, bias, a, b, 0.5, splits=splits)
    held(
        found,
        lora_plain(x, w, bias, a, b, 0.5, "none"),
        lora_plain(x.double(), w, bias.double(), a.double(), b.double(), 0.5, "none"),
    )


@pytest.mark.parametrize("rows", [2, 10])
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_activation_comes_last_and_a_bias_may_be_missing(library, rows, activation):
    x, stored, state, _, a, b = lora_problem(rows, 64, 8, 3, "nf4", torch.float16)
    w = dequantized(stored, state, 8)
    number = ["none", "gelu", "silu"].index(activation)
    found = emulator.lora(library, x, stored, state, None, a, b, 2.0, activation=number)
    exact = lora_plain(x.double(), w, None, a.double(), b.double(), 2.0, activation)
    held(found, lora_plain(x, w, None, a, b, 2.0, activation), exact)


@pytest.mark.parametrize("tokens", [1, 37, 65, pytest.param(130, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [32, 64, 80, 128])
@pytest.mark.parametrize(("bias", "cards"), [("none", 0), ("full", 0), ("shared", 99), ("fp32", 99), ("holes", 0)])
def test_attention_is_as_right_as_plain_torch(library, tokens, size, bias, cards):
    dtype = TYPES[(tokens + size) % 2] if bias == "full" else TYPES[tokens % 2]
    q, k, v, b = attention_problem(2, 2, tokens, size, bias, dtype)
    scale = size**-0.5
    exact = attention_plain(q.double(), k.double(), v.double(), None if b is None else b.double(), scale)
    held(emulator.attention(library, q, k, v, b, scale, cards), attention_plain(q, k, v, b, scale), exact)
