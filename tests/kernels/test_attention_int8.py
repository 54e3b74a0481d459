"""The operator for int8 attention: C++ and plain torch against each other and against float64."""

from __future__ import annotations

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.ops.attention_int8 import attention_int8
from edgefm.kernels.reference import attention_int8 as reference

BACKENDS = ["cpu", "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    if request.param == "cpu":
        pytest.importorskip("edgefm._native")
    monkeypatch.setenv("EDGEFM_KERNELS", f"attention_int8={request.param}")
    return request.param


def views(batch, heads, tokens, width):
    """q, k, v as views of one projection."""
    qkv = torch.randn(batch, tokens, 3, heads, width, generator=torch.Generator().manual_seed(tokens))
    return qkv.permute(2, 0, 3, 1, 4)


SHAPES = [(2, 3, 37, 64), (1, 1, 1, 32), (1, 2, 197, 72), (3, 1, 50, 128)]


@pytest.mark.parametrize(("batch", "heads", "tokens", "width"), SHAPES)
def test_against_float64(backend, batch, heads, tokens, width):
    q, k, v = views(batch, heads, tokens, width)
    found = attention_int8(q, k, v)
    scores = width**-0.5 * q.double() @ k.double().mT
    p = scores.softmax(-1)
    expected = p @ v.double()
    assert ((found.out - expected).square().sum() / expected.square().sum()).item() <= 4e-4
    torch.testing.assert_close(found.lse, scores.logsumexp(-1), atol=2e-2, rtol=0, check_dtype=False)
    torch.testing.assert_close(found.cls_row, p[:, :, 0], atol=3e-3, rtol=0, check_dtype=False)
    assert found.out.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_cpp_gives_what_torch_gives(threads):
    pytest.importorskip("edgefm._native")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        q, k, v = views(2, 3, 50, 64)
        found = attention_int8(q, k, v)
    finally:
        torch.set_num_threads(before)
    expected = [torch.empty_like(each) for each in found]
    reference.forward(q, k, v, 0.125, *expected)
    # a code of P that rounds the other way moves a value by 2 max|v| / 255 at most
    assert (found.out - expected[0]).abs().max() <= 4 * v.abs().max() / 255
    assert ((found.out - expected[0]).abs() <= 1e-6).double().mean() >= 0.8
    torch.testing.assert_close(found.lse, expected[1], atol=2e-5, rtol=0)
    torch.testing.assert_close(found.cls_row, expected[2], atol=1e-5, rtol=0)


def test_any_layout_gives_the_same_bits(backend):
    q, k, v = views(2, 3, 37, 64)
    found = attention_int8(q, k, v)
    for copied in ((q.contiguous(), k.contiguous(), v.contiguous()), (q, k.contiguous(), v), (q.mT.contiguous().mT, k, v)):
        assert all(a.equal(b) for a, b in zip(attention_int8(*copied), found, strict=True))


def test_it_keeps_torchs_rules(backend):
    q, k, v = views(1, 2, 5, 32)
    torch.library.opcheck(
        torch.ops.edgefm.attention_int8.default, (q, k, v, 0.2), test_utils=("test_schema", "test_faketensor")
    )


def test_it_compiles_in_one_graph(backend):
    q, k, v = views(1, 2, 5, 32)
    compiled = torch.compile(lambda *qkv: attention_int8(*qkv).out * 2, fullgraph=True, backend="eager")
    assert compiled(q, k, v).equal(attention_int8(q, k, v).out * 2)


def test_nan_spoils_its_row_its_head_or_its_column(backend):
    for which in range(3):
        qkv = views(1, 2, 5, 32).clone()
        qkv[which, 0, 1, 3, 7] = torch.nan
        out = attention_int8(*qkv).out.isnan()
        assert not out[0, 0].any()
        expected = torch.zeros(5, 32, dtype=torch.bool)
        expected[[3, slice(None), slice(None)][which], [slice(None), slice(None), 7][which]] = True
        assert out[0, 1].equal(expected)


def test_no_images_give_no_answers(backend):
    q, k, v = views(0, 2, 5, 32)
    assert [list(each.shape) for each in attention_int8(q, k, v)] == [[0, 2, 5, 32], [0, 2, 5], [0, 2, 5]]


@pytest.mark.parametrize(
    "change",
    [
        lambda q: (q, q[:, :, :3], q, None),
        lambda q: (q.double(), q.double(), q.double(), None),
        lambda q: (q[..., :20], q[..., :20], q[..., :20], None),
        lambda q: (q, q, q, 0.0),
        lambda q: (q, q, q, float("nan")),
        lambda q: (q[0], q[0], q[0], None),
    ],
    ids=["shapes", "fp64", "width 20", "scale 0", "scale NaN", "3-D"],
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(InputError):
        attention_int8(*change(views(1, 2, 5, 32)[0]))
