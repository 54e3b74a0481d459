"""The MLP's activations as Triton computes them, against torch's in fp64."""

from __future__ import annotations

import pytest
import torch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("activation", ["gelu", "silu"])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_activations_and_their_slopes_are_exact_in_fp32_far_out_too(lora_device, activation):
    device = lora_device
    from edgefm.kernels.triton.activation import activate, activate_backward

    z = torch.cat([torch.linspace(-12, 12, 20001), torch.tensor([-1e5, -50, -0.0, 50, 1e5])])[None].to(device)
    wide = z.double().requires_grad_()
    exact = getattr(torch.nn.functional, activation)(wide)
    (slope,) = torch.autograd.grad(exact.sum(), wide)
    bound = 4e-7 * z.abs().clamp(min=1)
    assert ((activate(z, activation) - exact).abs() <= bound).all()
    assert ((activate_backward(torch.ones_like(z), z, activation) - slope).abs() <= 1e-6).all()
