"""LoRA on a frozen linear layer and on a transformer's MLP: which passes run, in which order, and which way of each.

Not the kernels: `low_rank.py` (thin products), `product.py` (the wide one), `dropout.py`, `frozen.py`, `activation.py`.
Symbols and formulas are `reference/lora.py`'s. Passes over the wide matrices, forward: x for u, x W; backward: g for v, for dB
and for g W, x for dA.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..ops.frozen import Layer
from ..reference.philox import kept
from ..select import interpreted
from .activation import activate, activate_backward
from .card import capability, on_its_card
from .dropout import keep_bits
from .frozen import dequantize
from .low_rank import narrow, tall
from .measured import measured
from .product import Tile, product


class Way(NamedTuple):
    """How the products run.

    wide, that with W: `fused` (Triton, all in one), `loop` (the same, but the activation a pass of its own), `epilogue` (cuBLAS
    and one pass for the rest), `extended` (cuBLAS over [x, u] [W, B]ᵀ, then the activation), `addmm` (cuBLAS twice, then the
    activation). thin, those with A and B: `triton`, or `mm` (cuBLAS, where there is neither mask nor index).
    """

    wide: str
    thin: str


# Set by the benchmark to hold ways against each other; None: `way` decides.
FORCED: Way | None = None
WAYS = tuple(Way(wide, thin) for wide in ("fused", "loop", "epilogue", "extended", "addmm") for thin in ("triton", "mm"))


def way(x: torch.Tensor, n: int, activation: str) -> Way:
    """Which way for x `[M, K]` and n columns of the output; held against the others by `benchmarks/gpu_lora.py --variants`.

    fp32 goes through cuBLAS: Triton's exact fp32 product has no matrix instructions, and tf32 misses the error rule. In 16 bits
    the fused kernel saves a pass over the output, which is worth most where that is wider than x or has an activation;
    elsewhere cuBLAS is the faster product."""
    if FORCED is not None:
        return FORCED
    fused = x.element_size() <= 2 and (n > x.shape[1] or activation != "none")
    return Way("fused" if fused else "epilogue", "triton")


def key(n: int, activation: str) -> str:
    """What the fused product's blocks in 16 bits are called where measured ones are kept."""
    return f"lora {activation} {'wide' if n > 1024 else 'narrow'}"


def blocks(x: torch.Tensor, n: int, activation: str) -> Tile:
    """Those measured on x's card, else `tile`."""
    found = measured(key(n, activation), x.device) if x.element_size() <= 2 else None
    return tile(x, n, capability(x.device), activation) if found is None else Tile(*found)


def tile(x: torch.Tensor, n: int, capability: tuple[int, int], activation: str) -> Tile:
    """The blocks of the fused product, by what fits: 227 KiB on 9.0 and 10.x, 163 on 8.0, 99 on 8.6, 8.9 and 12.x.

    12,600 rows and 3,072 columns are 9 full rounds of 132 processors; under 1,025 columns smaller blocks leave a shorter last
    round; with an activation larger ones spill."""
    if x.element_size() > 2:
        return Tile(64, 64, 32, 4, 2)
    if capability[0] in (9, 10):
        return Tile(128, 256, 64, 8, 3) if n > 1024 and activation == "none" else Tile(128, 128, 64, 8, 3)
    return Tile(128, 128, 64, 8, 3) if capability == (8, 0) else Tile(128, 128, 32, 8, 3)


PASS = Tile(64, 128, 32, 8, 1)  # of the epilogue alone: bound by memory, so blocks are small


@on_its_card
def linear(x, layer: Layer, index, seed, scale: float, p: float, activation: str):
    """y `[M, out]`, z (empty without an activation), u `[M, num · r]`; see `reference.lora.linear`."""
    dtype, x = x.dtype, _runs(x)
    y, z, u = _linear(x, layer, index, _mask(seed, 0, x.shape, p), scale / kept(p), activation)
    return y.to(dtype), z.to(dtype), u.to(dtype)


@on_its_card
def linear_backward(g, x, z, u, layer: Layer, index, seed, scale: float, p: float, activation: str, need_x: bool):
    """dx (empty if it is not needed), da, db."""
    dtype, (g, x, z, u) = x.dtype, map(_runs, (g, x, z, u))
    if activation != "none":
        g = activate_backward(g, z, activation)
    bits, flat = _mask(seed, 0, x.shape, p), layer.flat(x.dtype)
    v, da, db = _thin_backward(g, x, u, layer, flat, index, bits, scale / kept(p), "none")
    dx = _input_gradient(g, v, layer, flat, index, bits, None, "none") if need_x else x.new_empty(0)
    return dx.to(dtype), *layer.unflat(da, db)


@on_its_card
def mlp(x, fc1: Layer, fc2: Layer, index, seed, scale: float, p: float, activation: str):
    """y `[M, out]`, z `[M, hidden]` before the activation, u of both layers."""
    dtype, x, c = x.dtype, _runs(x), scale / kept(p)
    bits = _mask(seed, 0, x.shape, p)
    if activation in ("swiglu", "glu"):
        z, _, u1 = _linear(x, fc1, index, bits, c, "none")
        h = activate(z, activation)
    else:
        h, z, u1 = _linear(x, fc1, index, bits, c, activation)
    y, _, u2 = _linear(h, fc2, index, _mask(seed, 1, h.shape, p), c, "none")
    return y.to(dtype), z.to(dtype), u1.to(dtype), u2.to(dtype)


@on_its_card
def mlp_backward(g, x, z, u1, u2, fc1: Layer, fc2: Layer, index, seed, scale: float, p: float, activation: str, need_x: bool):
    """dx (empty if it is not needed), da1, db1, da2, db2; the hidden values are computed again while dA2 is summed."""
    dtype, c, (g, x, z, u1, u2) = x.dtype, scale / kept(p), map(_runs, (g, x, z, u1, u2))
    bits, flat = _mask(seed, 1, (len(x), fc2.a.shape[2]), p), fc2.flat(x.dtype)
    v2, da2, db2 = _thin_backward(g, z, u2, fc2, flat, index, bits, c, activation)
    dz = _input_gradient(g, v2, fc2, flat, index, bits, z, activation)
    bits, flat = _mask(seed, 0, x.shape, p), fc1.flat(x.dtype)
    v1, da1, db1 = _thin_backward(dz, x, u1, fc1, flat, index, bits, c, "none")
    dx = _input_gradient(dz, v1, fc1, flat, index, bits, None, "none") if need_x else x.new_empty(0)
    return dx.to(dtype), *fc1.unflat(da1, db1), *fc2.unflat(da2, db2)


def _linear(x, layer: Layer, index, bits, c: float, activation: str):
    a, b = layer.flat(x.dtype)
    r = layer.a.shape[1]
    u = _narrow(x, a, c, bits, index, r, way(x, len(b), activation))
    w = dequantize(layer.base, len(b), x.shape[1], x.dtype)
    bias = None if layer.bias is None else layer.bias.contiguous()
    return *_wide(x, w, bias, u, b, index, r, activation), u


def _wide(x, w, bias, u, b, index, r: int, activation: str):
    """y and z (empty without an activation): act(x Wᵀ + bias + u Bᵀ)."""
    wide = way(x, len(w), activation).wide
    if wide == "loop" and activation != "none":
        z, _ = _wide(x, w, bias, u, b, index, r, "none")
        return activate(z, activation), z
    if wide in ("fused", "loop", "epilogue"):
        base = x @ w.T if wide == "epilogue" else None
        with_z = activation != "none"
        out = base if base is not None and not with_z else x.new_empty(len(x), len(w))
        z = torch.empty_like(out) if with_z else x.new_empty(0)
        size = blocks(x, len(w), activation) if base is None else PASS
        return product(x, w, out, size, bias=bias, u=u, v=b, index=index, r=r, z=z, activation=activation, base=base), z
    if wide == "extended":
        x, w = torch.cat([x, u], 1), torch.cat([w, b], 1)
    z = x @ w.T if bias is None else torch.addmm(bias.to(x.dtype), x, w.T)
    if wide == "addmm":
        z.addmm_(u, b.T)
    return (z, x.new_empty(0)) if activation == "none" else (activate(z, activation), z)


def _input_gradient(g, v, layer: Layer, flat, index, bits, z, activation: str):
    """act'(z) (g W + mask ∘ (v A)); flat: A and B in g's dtype; z: None without an activation."""
    wide = way(g, layer.a.shape[2], activation).wide
    if activation in ("swiglu", "glu") or (wide == "loop" and activation != "none"):
        return activate_backward(_input_gradient(g, v, layer, flat, index, bits, None, "none"), z, activation)
    a, b = flat
    n = a.shape[1]
    w = dequantize(layer.base, len(b), n, g.dtype)
    back = activation != "none"
    if wide in ("extended", "addmm") and bits is None:
        dx = torch.cat([g, v], 1) @ torch.cat([w, a]) if wide == "extended" else (g @ w).addmm_(v, a)
        return activate_backward(dx, z, activation) if back else dx
    base = None if wide in ("fused", "loop") else g @ w
    size = blocks(g, n, activation) if base is None else PASS
    out = g.new_empty(len(g), n) if base is None or back else base
    return product(
        g, w.T, out, size, u=v, v=a.T, bits=bits, index=index, r=layer.a.shape[1], z=z, activation=activation, back=back,
        base=base,
    )  # fmt: skip


def _thin_backward(g, x, u, layer: Layer, flat, index, bits, c: float, activation: str):
    """v = c g B, dA = vᵀ (mask ∘ act(x)) and dB transposed, uᵀ g, both in fp32."""
    _, b = flat
    chosen = way(g, layer.a.shape[2], activation)
    v = _narrow(g, b.T, c, None, index, layer.a.shape[1], chosen)
    if chosen.thin == "mm":
        db = (u.T @ g).float()
        da = (v.T @ x).float() if bits is None and activation == "none" else tall(v, x, activation, bits)
        return v, da, db
    return v, tall(v, x, activation, bits), tall(u, g)


def _narrow(x, a, c: float, bits, index, r: int, chosen: Way):
    if chosen.thin == "mm" and bits is None and index is None:
        return x @ (a.T * c)
    return narrow(x, a, c, bits, index, r)


def _mask(seed, stream: int, shape, p: float):
    return keep_bits(seed, stream, *shape, p) if p else None


def _runs(x: torch.Tensor) -> torch.Tensor:
    """bf16 in fp32 under Triton's interpreter, whose bf16 arithmetic is wrong."""
    return x.float() if x.dtype == torch.bfloat16 and interpreted() else x
