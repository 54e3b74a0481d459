"""A frozen weight back in floating point: NF4 against bitsandbytes, Triton against the reference."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edgefm.kernels.ops.frozen import Frozen, int8, nf4
from edgefm.kernels.ops.lora import lora_linear
from edgefm.kernels.reference.frozen import dequantize

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_nf4_is_what_bitsandbytes_dequantizes(lora_device, dtype, double):
    device = lora_device
    from edgefm.kernels.triton import frozen

    bitsandbytes = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(96, 70, device=device, dtype=dtype)
    packed, state = bitsandbytes.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    base, true = nf4(packed, state), bitsandbytes.dequantize_4bit(packed, state)
    assert torch.equal(dequantize(base, 96, 70, dtype), true)
    kernel = frozen.dequantize(base, 96, 70, dtype)
    # the interpreter cuts a bf16 off where a card rounds it
    torch.testing.assert_close(kernel, true, rtol=torch.finfo(dtype).eps, atol=0)
    if dtype == torch.bfloat16 and device.type == "cpu":
        return  # the product is in fp32 there, with W not rounded
    x, a, b = torch.randn(5, 70, device=device, dtype=dtype), *(torch.zeros(*s, device=device) for s in ((2, 70), (96, 2)))
    torch.testing.assert_close(lora_linear(x, base, None, a, b), functional.linear(x, true))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_nf4_and_int8_of_made_up_states_are_the_references(lora_device, double):
    device = lora_device
    from edgefm.kernels.triton import frozen

    packed = torch.randint(256, (33 * 35 // 2 + 1, 1), dtype=torch.uint8).to(device)
    blocks = -(-33 * 35 // 64)
    code, size = torch.randn(16, device=device), torch.rand(blocks, device=device)
    nested = (torch.rand(1, device=device), torch.rand(256, device=device), torch.tensor(0.3, device=device))
    state = ((size * 255).to(torch.uint8), code, *nested) if double else (size, code)
    quantized = torch.randint(-127, 128, (33, 35), dtype=torch.int8).to(device)
    for base in (Frozen(packed, state), int8(quantized, torch.rand(33, device=device))):
        torch.testing.assert_close(frozen.dequantize(base, 33, 35, torch.float32), dequantize(base, 33, 35, torch.float32))


@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_what_lies_in_memory_with_gaps_is_read_as_it_stands(lora_device):
    bytes_, wide = torch.randint(256, (2 * 12 * 32,), dtype=torch.uint8), torch.randint(-127, 128, (24, 64), dtype=torch.int8)
    absmax, code, scale, bias = torch.rand(12), torch.randn(32), torch.rand(24), torch.randn(24)
    x, a, b = torch.randn(5, 64), torch.randn(2, 64), torch.randn(12, 2)
    for base in (Frozen(bytes_[::2], (absmax, code[::2])), int8(wide[::2], scale[::2])):
        true = x @ dequantize(base, 12, 64, torch.float32).T + bias[::2] + (x @ a.T) @ b.T
        base = Frozen(base.weight.to(lora_device), tuple(each.to(lora_device) for each in base.state), base.block)
        strided = bias.to(lora_device)[::2]
        mine = lora_linear(x.to(lora_device), base, strided, a.to(lora_device), b.to(lora_device))
        torch.testing.assert_close(mine.cpu(), true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_an_index_with_gaps_is_read_as_it_stands(lora_device):
    x, w, a, b = (torch.randn(*size) for size in ((4, 8), (6, 8), (2, 3, 8), (2, 6, 3)))
    index = torch.tensor([0, 1, 1, 0, -1, 1, 1, 0], dtype=torch.int32)
    given = [each.to(lora_device) for each in (x, w, a, b)]
    mine, own = (
        lora_linear(*given[:2], None, *given[2:], index=i) for i in (index.to(lora_device)[::2], index[::2].to(lora_device))
    )
    torch.testing.assert_close(mine, own)
    torch.testing.assert_close(mine.cpu()[2], x[2] @ w.T)
