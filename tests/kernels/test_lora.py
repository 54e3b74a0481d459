"""LoRA as operators: the reference against autograd, Triton against the reference.

On a processor Triton's kernels run in its interpreter, bf16 in fp32 there (its bf16 is wrong): the bf16 products themselves
are tested by the same functions on a GPU.
"""

from __future__ import annotations

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.ops.frozen import Frozen, Layer, int8
from edgefm.kernels.ops.lora import lora_linear
from edgefm.kernels.ops.lora_mlp import lora_mlp
from edgefm.kernels.reference import lora as reference
from edgefm.kernels.reference import philox

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# rows, in, out, rank, adapters, dropout: odd on purpose, one row, rank over 64, adapters whose ranks share a block or do not
SHAPES = [
    (1, 5, 3, 1, 1, 0.0),
    (37, 72, 40, 5, 1, 0.3),
    (197, 64, 96, 16, 3, 0.1),
    (50, 136, 70, 128, 1, 0.0),
    (70, 64, 64, 40, 3, 0.5),
]
NAME = "rows{}_in{}_out{}_rank{}_adapters{}_p{}"
CASES = [pytest.param(dtype, shape, id=f"{dtype}_{NAME.format(*shape)}") for dtype in DTYPES for shape in SHAPES]


def layer(generator, inner: int, out: int, rank: int, num: int, device="cpu", dtype=torch.float64) -> Layer:
    weight, bias = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((out, inner), (out,)))
    a, b = (torch.randn(num, *size, generator=generator, dtype=torch.float64) for size in ((rank, inner), (out, rank)))
    weight, bias, a, b = ((t / t.shape[-1] ** 0.5).to(device, dtype) for t in (weight, bias, a, b))
    return Layer(Frozen(weight), bias, a, b)


def values(generator, *size: int, device="cpu", dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*size, generator=generator, dtype=torch.float64).to(device, dtype)


def adapters(generator, rows: int, num: int, device="cpu") -> torch.Tensor | None:
    return torch.randint(-1, num, (rows,), generator=generator, dtype=torch.int32).to(device) if num > 1 else None


def to(layer: Layer, dtype) -> Layer:
    """The same numbers in another dtype."""
    return Layer(Frozen(layer.base.weight.to(dtype)), layer.bias.to(dtype), layer.a.to(dtype), layer.b.to(dtype))


def gated(activation: str) -> bool:
    return activation in ("swiglu", "glu")


def hold(got, plain, exact) -> None:
    """At most twice plain PyTorch's error at the same dtype, and 4 eps of the largest value."""
    for mine, peer, true in zip(got, plain, exact, strict=True):
        if not true.numel():
            continue
        eps = torch.finfo(peer.dtype).eps
        bound = 2 * (peer.double() - true).abs().max() + 4 * eps * true.abs().max()
        assert (mine.double() - true).abs().max() <= bound


@pytest.mark.parametrize("activation", ["none", "gelu", "silu"])
@pytest.mark.parametrize("num", [1, 3])
def test_gradients_of_a_layer_are_right(activation, num):
    generator = torch.Generator().manual_seed(0)
    one, x = layer(generator, 6, 5, 2, num), values(generator, 7, 6).requires_grad_()
    index, seed = adapters(generator, 7, num), torch.tensor([3])

    def run(x, a, b):
        return lora_linear(x, one.base, one.bias, a, b, 1.5, 0.3, activation, index=index, seed=seed)

    assert torch.autograd.gradcheck(run, (x, one.a.requires_grad_(), one.b.requires_grad_()))


@pytest.mark.parametrize("activation", ["gelu", "silu", "swiglu", "glu"])
def test_gradients_of_an_mlp_are_right(activation):
    generator = torch.Generator().manual_seed(0)
    fc1, fc2 = layer(generator, 5, 6, 2, 2), layer(generator, 3 if gated(activation) else 6, 4, 3, 2)
    x, index, seed = values(generator, 7, 5).requires_grad_(), adapters(generator, 7, 2), torch.tensor([3])
    factors = [t.requires_grad_() for t in (fc1.a, fc1.b, fc2.a, fc2.b)]

    def run(x, a1, b1, a2, b2):
        first, second = (fc1.base, fc1.bias, a1, b1), (fc2.base, fc2.bias, a2, b2)
        return lora_mlp(x, *first, *second, 0.5, 0.2, activation, index=index, seed=seed)

    assert torch.autograd.gradcheck(run, (x, *factors))


def test_it_is_what_the_formula_says_row_by_row_with_each_rows_own_adapter():
    generator = torch.Generator().manual_seed(0)
    one, x = layer(generator, 12, 9, 4, 3), values(generator, 20, 12)
    index, seed = adapters(generator, 20, 3), torch.tensor([11])
    y = lora_linear(x, one.base, one.bias, one.a, one.b, 2.0, 0.25, index=index, seed=seed)
    dropped = x * philox.keep(seed, 0, 20, 12, 0.25) / 0.75
    for row, which in enumerate(index.tolist()):
        low = one.b[which] @ one.a[which] @ dropped[row] if which >= 0 else torch.zeros(9)
        torch.testing.assert_close(y[row], one.base.weight @ x[row] + one.bias + 2 * low)


@pytest.mark.parametrize("gate_last", [False, True])
def test_the_gated_mlp_is_timms(gate_last):
    timm = pytest.importorskip("timm")
    mlp = timm.layers.GluMlp(6, 10, act_layer=torch.nn.SiLU, gate_last=gate_last).double().requires_grad_(False)
    x, (a1, b1, a2, b2) = torch.randn(2, 3, 6).double(), (torch.zeros(*s).double() for s in ((2, 6), (10, 2), (2, 5), (6, 2)))
    first, second = (mlp.fc1.weight, mlp.fc1.bias, a1, b1), (mlp.fc2.weight, mlp.fc2.bias, a2, b2)
    torch.testing.assert_close(lora_mlp(x, *first, *second, activation="glu" if gate_last else "swiglu"), mlp(x))


@pytest.mark.parametrize(("dtype", "shape"), CASES)
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_triton_is_as_exact_as_plain_torch_each_way(lora_device, dtype, shape, monkeypatch):
    device = lora_device
    from edgefm.kernels.triton import lora

    rows, inner, out, rank, num, p = shape
    generator = torch.Generator().manual_seed(0)
    one = layer(generator, inner, out, rank, num, device, dtype)
    x, g = values(generator, rows, inner, device=device, dtype=dtype), values(generator, rows, out, device=device, dtype=dtype)
    index, seed = adapters(generator, rows, num, device), torch.tensor([5], device=device)
    ways = lora.WAYS if index is None else lora.WAYS[::2]  # with an index the thin products are Triton's in any case
    for activation, some in (("none", ways), ("gelu", ways[:3])):
        options = (index, seed, 0.7, p, activation)
        wide = to(one, torch.float64)
        exact, plain = reference.linear(x.double(), wide, *options), reference.linear(x, one, *options)
        exact_back = reference.linear_backward(g.double(), x.double(), *exact[1:], wide, *options, True)
        plain_back = reference.linear_backward(g, x, *plain[1:], one, *options, True)
        for way in some:
            monkeypatch.setattr(lora, "FORCED", way)
            got = lora.linear(x, one, *options)
            hold(got, plain, exact)
            hold(lora.linear_backward(g, x, *got[1:], one, *options, True), plain_back, exact_back)


@pytest.mark.parametrize("activation", ["gelu", "silu", "swiglu", "glu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_tritons_mlp_is_as_exact_as_plain_torch(lora_device, dtype, activation):
    device = lora_device
    from edgefm.kernels.triton import lora

    generator = torch.Generator().manual_seed(0)
    fc1 = layer(generator, 40, 80, 8, 2, device, dtype)
    fc2 = layer(generator, 40 if gated(activation) else 80, 24, 16, 2, device, dtype)
    x, g = values(generator, 197, 40, device=device, dtype=dtype), values(generator, 197, 24, device=device, dtype=dtype)
    options = (adapters(generator, 197, 2, device), torch.tensor([5], device=device), 0.7, 0.1, activation)
    results = []
    for backend, kind in ((lora, dtype), (reference, dtype), (reference, torch.float64)):
        layers = (to(fc1, kind), to(fc2, kind))
        forward = backend.mlp(x.to(kind), *layers, *options)
        results.append((*forward, *backend.mlp_backward(g.to(kind), x.to(kind), *forward[1:], *layers, *options, True)))
    hold(*results)


@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_the_operators_are_sound_for_torch(lora_device):
    device = lora_device
    generator = torch.Generator().manual_seed(0)
    fc1, fc2 = (layer(generator, *size, 1, device, torch.float32) for size in ((8, 12, 4), (12, 8, 4)))
    x, seed = values(generator, 5, 8, device=device, dtype=torch.float32).requires_grad_(), torch.tensor([1], device=device)
    one, two = ((f.base.weight, [], 64, 256, f.bias, f.a.requires_grad_(), f.b.requires_grad_()) for f in (fc1, fc2))
    torch.library.opcheck(torch.ops.edgefm.lora_linear.default, (x, *one, None, seed, 1.0, 0.1, "gelu", True))
    torch.library.opcheck(torch.ops.edgefm.lora_mlp.default, (x, *one, *two, None, seed, 1.0, 0.1, "gelu", True))


@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_their_gradients_are_sound_for_torch_on_a_quantized_base_with_several_adapters(lora_device):
    generator = torch.Generator().manual_seed(0)
    fc1, fc2 = (layer(generator, *size, 2, lora_device, torch.float32) for size in ((8, 12, 4), (12, 8, 4)))
    weight, scale = (fc1.base.weight * 50).to(torch.int8), torch.full((12,), 0.02, device=lora_device)
    x, index = values(generator, 5, 8, device=lora_device, dtype=torch.float32), adapters(generator, 5, 2, lora_device)
    one = (weight, [scale], 64, 256), (fc1.a, fc1.b)
    two = (fc2.base.weight, [], 64, 256), (fc2.a, fc2.b)
    rest = index, torch.tensor([1], device=lora_device), 1.0, 0.1, "gelu"
    ops = torch.ops.edgefm
    y, z, u = ops.lora_linear(x, *one[0], fc1.bias, *one[1], *rest, True)
    torch.library.opcheck(ops.lora_linear_backward.default, (torch.ones_like(y), x, z, u, *one[0], *one[1], *rest, True))
    y, *kept = ops.lora_mlp(x, *one[0], fc1.bias, *one[1], *two[0], None, *two[1], *rest, True)
    torch.library.opcheck(
        ops.lora_mlp_backward.default, (torch.ones_like(y), x, *kept, *one[0], *one[1], *two[0], *two[1], *rest, True)
    )


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_they_compile_whole_and_give_the_same(lora_device, backend):
    device = lora_device
    generator = torch.Generator().manual_seed(0)
    fc1, fc2 = (layer(generator, *size, 2, device, torch.float32) for size in ((8, 12, 4), (12, 8, 4)))
    x, seed = values(generator, 3, 5, 8, device=device, dtype=torch.float32), torch.tensor([1], device=device)
    index = torch.tensor([1, 0, -1], device=device)
    quantized = int8((fc1.base.weight * 50).to(torch.int8), torch.full((12,), 0.02, device=device))
    factors = [t.requires_grad_() for t in (fc1.a, fc1.b, fc2.a, fc2.b)]

    def run(x):
        first, second = (quantized, fc1.bias, fc1.a, fc1.b), (fc2.base, None, fc2.a, fc2.b)
        y = lora_mlp(x, *first, *second, 1.0, 0.1, index=index, seed=seed)
        return lora_linear(y, *first, 1.0, 0.1, index=index, seed=seed).square().sum()

    eager = torch.autograd.grad(run(x), factors)
    compiled = torch.autograd.grad(torch.compile(run, fullgraph=True, backend=backend)(x), factors)
    for mine, true in zip(compiled, eager, strict=True):
        torch.testing.assert_close(mine, true)


@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_under_autocast_the_products_are_in_its_dtype_and_the_factors_gradients_in_theirs(lora_device):
    device = lora_device
    generator = torch.Generator().manual_seed(0)
    one = layer(generator, 16, 16, 4, 1, device, torch.float32)
    x = values(generator, 5, 16, device=device, dtype=torch.float32).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = lora_linear(x, one.base, one.bias, one.a.requires_grad_(), one.b)
    y.float().square().sum().backward()
    assert (y.dtype, x.grad.dtype, one.a.grad.dtype) == (torch.bfloat16, torch.float32, torch.float32)


def test_under_autocast_fp64_stays_as_in_pytorchs_own_products_and_shapes_alone_are_answered():
    one, x = layer(torch.Generator().manual_seed(0), 8, 6, 2, 1), torch.randn(3, 8).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lora_linear(x, *one), reference.linear(x, one, None, None, 1.0, 0.0, "none")[0])
    weight, bias, a, b = one.base.weight.to("meta"), *(each.to("meta") for each in one[1:])
    assert lora_linear(x.to("meta"), weight, bias, a, b).shape == (3, 6)


def test_the_same_torch_seed_gives_the_same_mask_and_the_next_draw_another():
    one, x = layer(torch.Generator().manual_seed(0), 16, 16, 4, 1), torch.ones(5, 16).double()
    torch.manual_seed(1)
    first, second = (lora_linear(x, *one, dropout_p=0.5) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(lora_linear(x, *one, dropout_p=0.5), first)
    assert not torch.equal(first, second)


def test_neither_a_mask_nor_the_hidden_values_are_kept():
    fc1, fc2 = (to(layer(torch.Generator().manual_seed(0), *size, 4, 1), torch.float32) for size in ((16, 64), (64, 16)))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        lora_mlp(torch.randn(50, 16), *fc1._replace(a=fc1.a.requires_grad_()), *fc2, dropout_p=0.1)
    assert kept.count((50, 64)) == 1
    assert kept.count((50, 16)) == 1


def test_what_does_not_fit_is_refused():
    one, x = layer(torch.Generator().manual_seed(0), 8, 6, 2, 2), torch.randn(4, 5, 8).double()
    index = torch.tensor([0, 1, 0, 1])
    with pytest.raises(InputError, match="no index"):
        lora_linear(x, *one)
    with pytest.raises(InputError, match="20 rows or 4 images"):
        lora_linear(x, *one, index=index[:3])
    with pytest.raises(InputError, match="dropout_p = 1"):
        lora_linear(x, *one, index=index, dropout_p=1.0)
    with pytest.raises(InputError, match="relu"):
        lora_linear(x, *one, index=index, activation="relu")
    with pytest.raises(InputError, match="for inputs of 7"):
        lora_linear(x[..., :7], *one, index=index)
    one = tuple(t[0] if t is one.a or t is one.b else t for t in one)
    weight, bias, a, b = one
    for wrong, said in (
        ((weight, bias[:1], a, b), r"a bias \[1\]; expected \[6\]"),  # would be read beyond its end
        ((weight, bias, a[:0], b[:, :0]), "r from 1 on"),
        ((weight, bias, a.to("meta"), b.to("meta")), "tensors on cpu, meta; expected one device"),
    ):
        with pytest.raises(InputError, match=said):
            lora_linear(x, *wrong)
        with pytest.raises(InputError, match=said):
            lora_mlp(x, *wrong, torch.ones(3, 6), None, torch.ones(1, 6), torch.ones(3, 1))
    with pytest.raises(InputError, match=r"an index of torch\.float32; expected int32 or int64"):
        lora_linear(x, *one, index=index.float())
    with pytest.raises(InputError, match=r"x \[4, 5, 8\] torch\.int64; expected .* floating-point"):
        lora_linear(x.long(), *one)
    with pytest.raises(InputError, match=r"x \[\]"):
        lora_linear(x[0, 0, 0], *one)


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_no_rows_give_no_answers_and_gradients_of_zero(backend, monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", f"lora={backend}")
    if backend == "triton":
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            pytest.skip("here is a GPU: Triton compiles, its interpreter is not used")
    generator = torch.Generator().manual_seed(0)
    one, x = layer(generator, 8, 6, 2, 2, dtype=torch.float32), torch.zeros(0, 5, 8, requires_grad=True)
    two, index, seed = layer(generator, 6, 4, 2, 2, dtype=torch.float32), torch.zeros(0, dtype=torch.int64), torch.tensor([1])
    for each in (one.a, one.b, two.a, two.b):
        each.requires_grad_()
    y = lora_linear(x, *one, 1.0, 0.5, "gelu", index=index, seed=seed)
    z = lora_mlp(x, *one, *two, 1.0, 0.5, index=index, seed=seed)
    assert (y.shape, z.shape) == ((0, 5, 6), (0, 5, 4))
    (y.sum() + z.sum()).backward()
    assert x.grad.shape == x.shape
    assert not any(each.grad.any() for each in (one.a, one.b, two.a, two.b))
