"""Attention: the formula, its gradients, what a mask does, and that each implementation computes it.

Each test runs in plain torch, on a GPU (`-m gpu`), and in Triton's interpreter, where it is right only in a process of its own.
The interpreter misreads bf16, so there bf16 goes in as fp32: the product of bf16 itself runs on a GPU only.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.ops.attention import attend, attend_backward, attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreter = pytest.param("interpreter", marks=pytest.mark.skipif(not INTERPRETED, reason="needs TRITON_INTERPRET=1"))
FLOATS = [torch.float32, torch.float16, torch.bfloat16]
# batch, heads, tokens, head, bias's batch and heads
CASES = {
    "one token": ((1, 1, 1, 16), (1, 1)),
    "five tokens, a head that no matrix unit has": ((3, 2, 5, 20), (1, 2)),
    "37 tokens without bias": ((2, 3, 37, 64), None),
    "a bias for all images": ((3, 2, 37, 32), (1, 2)),
    "a bias for each image and head": ((2, 2, 50, 48), (2, 2)),
    "a bias for each image": ((2, 2, 21, 80), (2, 1)),
    "one bias for all": ((2, 1, 37, 96), (1, 1)),
    "197 tokens, a small head": ((1, 1, 197, 16), (1, 1)),
    "261 tokens, a small head": ((1, 1, 261, 16), (1, 1)),
}
LONG = {
    "70 tokens, one bias for all": ((2, 2, 70, 96), (1, 1)),
    "196 tokens": ((2, 1, 196, 64), (1, 1)),
    "197 tokens, a bias for all images": ((2, 2, 197, 64), (1, 2)),
    "257 tokens, the largest head": ((1, 2, 257, 128), (1, 1)),
    "261 tokens": ((1, 1, 261, 72), None),
}
HUGE = {
    "577 tokens": ((8, 12, 577, 64), (1, 12)),
    "1,370 tokens": ((2, 4, 1370, 64), (1, 4)),
    "1,370 tokens, a bias for each": ((2, 2, 1370, 80), (2, 2)),
    "70,000 windows": ((70000, 1, 49, 32), (1, 1)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(params=["reference", interpreter, pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where tensors go; which backend runs follows from it."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA card")
    monkeypatch.setenv("EDGEFM_KERNELS", "reference" if request.param == "reference" else "triton")
    return torch.device("cuda" if request.param == "cuda" else "cpu")


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_all_of_this_holds_in_tritons_interpreter(which):
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "interpreter"]
    done = subprocess.run(
        [*command, "-m", f"{which} and not gpu"], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def tensors(case, dtype, device, *, masked=True):
    """q, k, v, bias and a gradient for each answer, drawn on the CPU so that each device has the same."""
    (b, h, n, d), repeated = case
    draw = torch.Generator().manual_seed(n * d)
    q, k, v, d_out = (torch.randn(b, n, h, d, generator=draw).transpose(1, 2) for _ in range(4))
    rows = torch.randn(2, b, h, n, generator=draw)
    bias = None if repeated is None else torch.randn(*repeated, n, n, generator=draw)
    if bias is not None and masked:
        bias[torch.rand(bias.shape, generator=draw) < 0.2] = -torch.inf
        bias[..., torch.arange(n), torch.arange(n)] = 0.5  # no row without a score
    given = [None if t is None else t.to(device, dtype) for t in (q, k, v, bias, d_out)]
    return (*given, rows.to(device))


def answers(f, q, k, v, bias, d_out, d_rows):
    """The four answers of `f`, and the gradients of what flows from the first three."""
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v, bias) if t is not None]
    out, lse, cls_row, importance = f(*leaves)
    loss = (out * d_out.to(out.dtype)).sum() + (lse * d_rows[0]).sum() + (cls_row * d_rows[1]).sum()
    gradients = torch.autograd.grad(loss, leaves)
    names = ("out", "lse", "cls_row", "importance", "dq", "dk", "dv", "dbias")
    return dict(zip(names, [t.detach() for t in (out, lse, cls_row, importance, *gradients)]))


def ours(q, k, v, bias=None):
    return attention(q, k, v, bias, want_lse=True, want_cls_row=True, want_importance=True)


def plain(q, k, v, bias=None):
    """What one would write in PyTorch."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    p = scores.softmax(-1)
    return p @ v, scores.logsumexp(-1), p[:, :, 0], p.mean(-2)


def hold(case, dtype, device):
    """The error is at most twice that of plain PyTorch at this type plus 4 eps of the largest value, both against fp64."""
    given = tensors(case, dtype, device)
    exact = answers(plain, *(None if t is None else t.double() for t in given))
    told, peer = answers(ours, *given), answers(plain, *given)
    for name, value in exact.items():
        error, allowed = ((x[name].double() - value).abs().max().item() for x in (told, peer))
        allowed = 2 * allowed + 4 * torch.finfo(dtype).eps * value.abs().max().item()
        assert error <= allowed, f"{name}: {error:.3g}, allowed {allowed:.3g}"


@cases
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_it_errs_no_more_than_plain_pytorch(case, dtype, device):
    hold(case, dtype, device)


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG.values(), ids=LONG.keys())
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_it_errs_no_more_at_length(case, dtype, device):
    hold(case, dtype, device)


@pytest.mark.gpu
@pytest.mark.parametrize("case", HUGE.values(), ids=HUGE.keys())
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_it_errs_no_more_at_sizes_that_fill_a_card(case, dtype, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA card")
    monkeypatch.setenv("EDGEFM_KERNELS", "triton")
    hold(case, dtype, torch.device("cuda"))


@pytest.mark.parametrize("repeated", [(1, 1), (2, 2)], ids=["a bias for all", "a bias for each"])
def test_a_row_that_attends_to_nothing_answers_zeros_and_no_nan(repeated, device):
    q, k, v, bias, d_out, d_rows = tensors(((2, 2, 37, 32), repeated), torch.float32, device)
    bias[:, :, [0, 5]] = -torch.inf
    told = answers(ours, q, k, v, bias, d_out, d_rows)
    assert torch.all(told["lse"][:, :, [0, 5]] == -torch.inf)
    assert torch.all(told.pop("lse")[:, :, 1] > -torch.inf)
    assert all(torch.isfinite(value).all() for value in told.values())
    for name in ("out", "dq", "dbias"):
        assert torch.all(told[name][:, :, [0, 5]] == 0), name
    assert torch.all(told["cls_row"] == 0)
    torch.testing.assert_close(told["importance"].sum(-1), torch.full((2, 2), 35 / 37, device=device))


def test_a_key_that_nobody_may_attend_to_has_no_importance_and_no_gradient(device):
    q, k, v, _, d_out, d_rows = tensors(((2, 2, 37, 32), None), torch.float32, device)
    mask = torch.zeros(2, 1, 1, 37, device=device)
    mask[..., -3:] = -torch.inf
    told = answers(lambda q, k, v: ours(q, k, v, mask.expand(-1, -1, 37, -1)), q, k, v, None, d_out, d_rows)
    for name in ("importance", "cls_row"):
        assert torch.all(told[name][..., -3:] == 0)
    for name in ("dk", "dv"):
        assert torch.all(told[name][:, :, -3:] == 0)
    short = answers(ours, q[:, :, :-3], k[:, :, :-3], v[:, :, :-3], None, d_out[:, :, :-3], d_rows[..., :-3])
    torch.testing.assert_close(told["out"][:, :, :-3], short["out"])


def test_scores_far_from_zero_neither_overflow_nor_vanish(device):
    """exp of ±900 is none in fp32; padded columns must not bring such values in either."""
    q, k, v, bias, d_out, d_rows = tensors(((1, 2, 37, 16), (1, 2)), torch.float32, device, masked=False)
    for shift in (900.0, -900.0):
        told, exact = (
            answers(f, *(t.to(dtype) for t in (q, k, v, bias + shift, d_out)), d_rows)
            for f, dtype in ((ours, torch.float32), (plain, torch.float64))
        )
        for name, value in exact.items():
            torch.testing.assert_close(told[name].double(), value, atol=2e-3, rtol=1e-4, msg=name)


def test_rows_of_a_projection_are_read_where_they_lie(device):
    """q, k, v as views of one [B, N, 3, H, D], the output as the next projection reads it."""
    qkv = torch.randn(2, 37, 3, 2, 32, generator=torch.Generator().manual_seed(0)).to(device)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    told = ours(q, k, v)
    torch.testing.assert_close(told.out, plain(q, k, v)[0])
    assert told.out.transpose(1, 2).is_contiguous()
    last = torch.randn(3, 2, 2, 32, 37, generator=torch.Generator().manual_seed(1)).to(device).mT  # the head is not dense
    torch.testing.assert_close(ours(*last).out, plain(*last)[0])


def test_a_bias_of_another_type_gets_its_gradient_in_that_type(device):
    q, k, v, bias, d_out, _ = tensors(((2, 2, 37, 32), (1, 2)), torch.float16, device)
    bias = bias.float().requires_grad_()
    (gradient,) = torch.autograd.grad(attention(q, k, v, bias).out, bias, d_out)
    assert gradient.dtype == torch.float32
    exact = bias.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(q.double(), k.double(), v.double(), exact)[0], exact, d_out.double())
    torch.testing.assert_close(gradient.double(), wanted, atol=5e-3, rtol=5e-3)


def test_under_autocast_it_runs_in_autocasts_type_as_pytorchs_own_does(device):
    q, k, v = (torch.randn(1, 2, 5, 16, device=device, requires_grad=True) for _ in range(3))
    with torch.autocast(device.type, torch.bfloat16):
        told, own = attention(q, k.bfloat16(), v, want_lse=True), torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert attention(q, k.bfloat16(), v).out.dtype == told.out.dtype == own.dtype == torch.bfloat16
        assert attention(*[q.double()] * 3, want_lse=True).out.dtype == torch.float64
    torch.testing.assert_close(told.out, own, rtol=2e-2, atol=2e-2)
    told.out.float().sum().backward()
    assert v.grad.dtype == torch.float32


def test_importance_is_a_distribution_over_tokens_and_has_no_gradient(device):
    q, k, v, *_ = tensors(CASES["37 tokens without bias"], torch.float32, device)
    told = attention(q.requires_grad_(), k, v, want_importance=True, want_cls_row=True)
    assert not told.importance.requires_grad
    assert told.cls_row.requires_grad
    torch.testing.assert_close(told.importance.sum(-1), torch.ones(2, 3, device=device))


def test_what_is_not_asked_for_is_none_and_plain_attention_is_pytorchs(device):
    q, k, v, *_ = tensors(CASES["37 tokens without bias"], torch.float32, device)
    for wanted in ("lse", "cls_row", "importance"):
        told = attention(q, k, v, **{f"want_{wanted}": True})
        assert [name for name, value in told._asdict().items() if value is not None] == ["out", wanted]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    told = attention(q, k, v)
    assert told[1:] == (None, None, None)
    assert torch.equal(told.out, sdpa(q, k, v))


def test_no_image_and_no_token_are_no_error(device):
    for shape in ((0, 2, 5, 16), (2, 2, 0, 16)):
        q = torch.zeros(shape, device=device, requires_grad=True)
        told = ours(q, q, q, torch.zeros(1, 1, shape[2], shape[2], device=device))
        assert told.out.shape == shape
        told.out.sum().backward()
        assert q.grad.shape == shape


def test_a_bias_for_all_images_gets_no_gradient_from_none(device, monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)  # what nobody has written is NaN now
    try:
        q, bias = torch.zeros(0, 2, 5, 16, device=device), torch.zeros(1, 2, 5, 5, device=device, requires_grad=True)
        ours(q, q, q, bias).out.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(bias.grad, torch.zeros_like(bias))


@pytest.mark.parametrize("repeated", [None, (1, 2), (2, 1), (2, 2), (1, 1)], ids=str)
def test_the_gradients_are_the_derivatives(repeated):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 4, 3, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(3))
    bias = []
    if repeated:
        bias = [torch.randn(*repeated, 4, 4, dtype=torch.float64, generator=draw, requires_grad=True)]
    assert torch.autograd.gradcheck(lambda *t: ours(*t)[:3], (q, k, v, *bias))


@pytest.mark.parametrize("case", [((2, 2, 21, 16), None), ((2, 2, 21, 16), (1, 2))], ids=["no bias", "bias"])
def test_torch_knows_the_operator_by_its_shapes(case, device):
    q, k, v, bias, d_out, d_rows = tensors(case, torch.float32, device)
    wanted = [t if t is None else t.requires_grad_() for t in (q, k, v, bias)]
    for rows in (True, False):
        torch.library.opcheck(attend, (*wanted, 0.25, True, rows, rows))
    with torch.no_grad():
        out, lse, cls_row, _ = attend(*wanted, 0.25, True, True, False)
    given = [t if t is None else t.detach() for t in wanted]
    arguments = (d_out, d_rows[0], d_rows[1], *given, out, lse, cls_row, 0.25, bias is not None)
    torch.library.opcheck(attend_backward, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.gpu)])
def test_a_compiled_graph_holds_it_without_a_break(backend, device):
    if backend == "inductor" and device.type != "cuda":
        pytest.skip("on a GPU")
    given = tensors(CASES["a bias for all images"], torch.float32, device)
    want, told = answers(ours, *given), answers(torch.compile(ours, fullgraph=True, backend=backend), *given)
    for name, value in want.items():
        torch.testing.assert_close(told[name], value, msg=name)


WRONG = {
    "three tensors of one shape": lambda q: (q, q[:, :, 1:], q),
    "1 to 128": lambda q: (q.repeat(1, 1, 1, 9),) * 3,
    "one floating-point type": lambda q: (q, q.half(), q),
    r"\[2 or 1, 3 or 1, 5, 5\]": lambda q: (q, q, q, torch.zeros(2, 1, 1, 5)),
    "turn a mask": lambda q: (q, q, q, torch.ones(1, 1, 5, 5, dtype=torch.bool)),
    "one device": lambda q: (q, q.to("meta"), q),
}


@pytest.mark.parametrize(("said", "given"), WRONG.items(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused(said, given):
    with pytest.raises(InputError, match=f"(?i){said}"):
        attention(*given(torch.zeros(2, 3, 5, 16)))
