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
