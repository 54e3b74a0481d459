"""LoRA on a frozen linear layer and on a transformer's MLP, forward and backward, in plain torch.

What runs on processors, and what the kernels are held to. Any floating dtype; fp64 for the gradients' check. Not fused.

Hu et al. 2021. Symbols, with m the mask of dropout and c = scale / P(kept): u = c (m ∘ x) Aᵀ, z = x Wᵀ + bias + u Bᵀ,
y = act(z); backward, with g = ∂/∂z: v = c g B, dx = g W + m ∘ (v A), dA = vᵀ (m ∘ x), dB = gᵀ u.
Several adapters side by side are one of rank num · r, of which a row uses its own r columns: u and v are zero elsewhere.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ..ops.frozen import Layer
from . import philox
from .frozen import dequantize


def linear(x, layer: Layer, index, seed, scale: float, p: float, activation: str, stream: int = 0):
    """y `[M, out]`, z `[M, out]` (empty without an activation) and u `[M, num · r]`; x `[M, in]`, index `[M]` or None."""
    a, b = layer.flat(x.dtype)
    m, c = _mask(x, seed, scale, p, stream)
    masked = x if m is None else m * x
    u = _own(c * (masked @ a.T), index, layer)
    w = dequantize(layer.base, b.shape[0], x.shape[1], x.dtype)
    z = x @ w.T if layer.bias is None else torch.addmm(layer.bias.to(x.dtype), x, w.T)
    z = z.addmm_(u, b.T)  # no pass of its own over the wide z
    return (z, z.new_empty(0), u) if activation == "none" else (activate(z, activation), z, u)


def linear_backward(g, x, z, u, layer: Layer, index, seed, scale: float, p: float, activation: str, need_x: bool, stream=0):
    """dx (empty if it is not needed), da and db for the gradient g of y."""
    if activation != "none":
        g = activate_backward(g, z, activation)
    a, b = layer.flat(x.dtype)
    m, c = _mask(x, seed, scale, p, stream)
    v = _own(c * (g @ b), index, layer)
    dx = x.new_empty(0)
    if need_x:
        dx = g @ dequantize(layer.base, b.shape[0], x.shape[1], x.dtype)
        dx = dx.addmm_(v, a) if m is None else dx.addcmul_(v @ a, m)
    masked = x if m is None else m * x
    return dx, *layer.unflat(v.T @ masked, u.T @ g)


def mlp(x, fc1: Layer, fc2: Layer, index, seed, scale: float, p: float, activation: str):
    """fc2(act(fc1(x))): y `[M, out]`, z `[M, hidden]` before the activation, and both layers' u."""
    z, _, u1 = linear(x, fc1, index, seed, scale, p, "none")
    y, _, u2 = linear(activate(z, activation), fc2, index, seed, scale, p, "none", stream=1)
    return y, z, u1, u2


def mlp_backward(g, x, z, u1, u2, fc1: Layer, fc2: Layer, index, seed, scale: float, p: float, activation: str, need_x: bool):
    """dx (empty if it is not needed), da1, db1, da2, db2."""
    h = activate(z, activation)
    dh, da2, db2 = linear_backward(g, h, z, u2, fc2, index, seed, scale, p, "none", True, stream=1)
    dz = activate_backward(dh, z, activation)
    return *linear_backward(dz, x, z, u1, fc1, index, seed, scale, p, "none", need_x), da2, db2


def activate(z: torch.Tensor, activation: str) -> torch.Tensor:
    """gelu: z Φ(z). silu: z σ(z). swiglu, timm's SwiGLUPacked: silu(first half) · second half. glu: first · silu(second)."""
    if activation in ("gelu", "silu"):
        return getattr(functional, activation)(z)
    first, second = z.chunk(2, dim=1)
    return functional.silu(first) * second if activation == "swiglu" else first * functional.silu(second)


def activate_backward(g: torch.Tensor, z: torch.Tensor, activation: str) -> torch.Tensor:
    """∂/∂z for g = ∂/∂activate(z)."""
    if activation == "gelu":
        return g * (0.5 * (1 + torch.erf(z * 0.5**0.5)) + z * torch.exp(-0.5 * z * z) * 0.3989422804014327)
    if activation == "silu":
        return g * _silu_slope(z)
    first, second = z.chunk(2, dim=1)
    if activation == "swiglu":
        return torch.cat([g * second * _silu_slope(first), g * functional.silu(first)], dim=1)
    return torch.cat([g * functional.silu(second), g * first * _silu_slope(second)], dim=1)


def _silu_slope(z: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


def _mask(x: torch.Tensor, seed, scale: float, p: float, stream: int) -> tuple[torch.Tensor | None, float]:
    """m, in x's dtype and shape, None without dropout; and c."""
    return (philox.keep(seed, stream, *x.shape, p).to(x.dtype), scale / philox.kept(p)) if p else (None, scale)


def _own(u: torch.Tensor, index: torch.Tensor | None, layer: Layer) -> torch.Tensor:
    """Zero in the columns of adapters that are not the row's own."""
    if index is None:
        return u
    num, r, _ = layer.a.shape
    return u * (torch.arange(num * r, device=u.device) // r == index[:, None])
