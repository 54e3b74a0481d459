"""The checks of `attention_kl` and `relation_kl`, for any backend, device and dtype.

Not tests: `test_attention_kl.py` runs them on the processor and on a GPU, Triton's interpreter in a process of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from edgefm.kernels.ops.attention_kl import attention_kl, relation_kl


class Case(NamedTuple):
    """What the maps are like: heads and widths of student and teacher, tokens, their valid numbers, and the scores."""

    tokens: int
    heads: object = "mean"
    student: tuple[int, int] = (2, 16)
    teacher: tuple[int, int] = (3, 24)
    lengths: tuple[int, ...] | None = None
    kind: str = "gaussian"
    temperature: float = 1.0
    images: int = 2


CASES = {
    "one token": Case(1),
    "one token, in pairs": Case(1, [2, 0]),
    "five tokens, the student's heads wider": Case(5, student=(2, 40), teacher=(3, 16), temperature=4.0),
    "37 tokens, ragged tiles": Case(37),
    "37 tokens, a teacher's head for two of the student's": Case(37, [1, 1], temperature=2.0),
    "one head each": Case(37, student=(1, 16), teacher=(1, 16)),
    "images of no, one and 33 valid tokens": Case(37, lengths=(0, 1, 33), images=3),
    "images of no, one and 33 valid tokens, in pairs": Case(37, [0, 1], lengths=(0, 1, 33), images=3),
    "rows that are all equal": Case(37, kind="equal"),
    "rows that are all equal, in pairs": Case(37, "pairs", (2, 16), (2, 24), kind="equal"),
    "the student is the teacher": Case(37, "pairs", (2, 16), (2, 16), kind="same"),
    "the student's heads are the teacher's": Case(37, student=(2, 16), teacher=(2, 16), kind="same"),
    "outlier rows, softmax of one column": Case(37, kind="outlier"),
    "outlier rows, in pairs": Case(37, [0, 2], kind="outlier"),
    "slices of a qkv of [B, N, 3, H, d]": Case(37, student=(2, 16), teacher=(3, 16), kind="strided"),
}
SMALL = {
    "197 tokens, small heads": Case(197, student=(1, 16), teacher=(2, 16), images=1),
    "261 tokens, small heads, in pairs": Case(261, "pairs", (1, 16), (1, 16), images=1),
}
LONG = {
    "197 tokens": Case(197, student=(3, 64), teacher=(12, 64), images=1),
    "197 tokens, in pairs": Case(197, "pairs", (3, 64), (3, 64), images=1),
    "261 tokens, heads of 80": Case(261, student=(2, 80), teacher=(2, 64), images=1),
}
GPU = {
    "1370 tokens": Case(1370, student=(6, 64), teacher=(16, 64)),
    "1370 tokens, in pairs": Case(1370, "pairs", (6, 64), (6, 64)),
    "577 tokens, heads of 200": Case(577, [1, 0], (2, 200), (2, 16)),
}


def tensors(case: Case, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """q_s, k_s, q_t, k_t."""
    random = torch.Generator().manual_seed(7)
    made = []
    for heads, width in (case.student, case.teacher):
        if case.kind == "strided":
            qkv = torch.randn(case.images, case.tokens, 3, heads, width, generator=random).to(device, dtype)
            made += qkv.permute(2, 0, 3, 1, 4).unbind(0)[:2]
            continue
        q, k = (torch.randn(case.images, heads, case.tokens, width, generator=random) * 1.5 for _ in range(2))
        if case.kind == "equal":
            k = k[:, :, :1].expand_as(k).contiguous()
        if case.kind == "outlier":  # scores of +-80 in some rows, less than the floor of the mean's kernel
            q[:, :, ::5] *= 60 / q[:, :, ::5].norm(dim=-1, keepdim=True) * math.sqrt(width) / k.norm(dim=-1).max()
        made += [x.to(device, dtype) for x in (q, k)]
    return made[:2] * 2 if case.kind == "same" else made


def run(case: Case, of: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """Value and gradients, in fp64."""
    of = [x.to(dtype) for x in of]
    q, k = (x.detach().requires_grad_() for x in of[:2])
    lengths = None if case.lengths is None else torch.tensor(case.lengths, device=q.device)
    value = attention_kl(q, k, *of[2:], case.temperature, heads=case.heads, lengths=lengths)
    (8 * value).backward()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert q.grad.dtype == k.grad.dtype == dtype
    return [x.detach().double() for x in (value, q.grad, k.grad)]


def hold(case: Case, device: str, dtype: torch.dtype, monkeypatch, backend: str) -> None:
    """Error at most twice that of plain PyTorch at this dtype plus 4 eps · max|exact|, both against fp64."""
    of = tensors(case, device, dtype)
    monkeypatch.setenv("EDGEFM_KERNELS", "reference")
    exact, plain = run(case, of, torch.float64), run(case, of, dtype)
    monkeypatch.setenv("EDGEFM_KERNELS", backend)
    # a divergence or a gradient that is 0 comes out as the difference of numbers of the size of 1 or of the keys
    zero = case.kind in ("same", "equal") or case.tokens == 1 or 1 in (case.lengths or ())
    slope = 8 * max(x.double().abs().max().item() for x in of[:2]) / case.tokens / case.images / case.student[0]
    for name, mine, other, right, least in zip(("value", "dq", "dk"), run(case, of, dtype), plain, exact, (1, slope, slope)):
        eps = torch.finfo(torch.float32 if name == "value" and dtype != torch.float64 else dtype).eps
        bound = 2 * (other - right).abs().max() + 4 * eps * max(right.abs().max().item(), least if zero else 0)
        error = (mine - right).abs().max()
        assert error <= bound, f"{name}: error {error:.3g}, bound {bound:.3g}, largest {right.abs().max():.3g}"


def hold_relation(device: str, dtype: torch.dtype, monkeypatch, backend: str) -> None:
    """Relations of 2 × 24 and 3 × 32 channels, re-split into 6 heads, equal attention_kl of the re-split tensors."""
    random = torch.Generator().manual_seed(3)
    x_s = torch.randn(2, 2, 37, 24, generator=random).to(device, dtype).requires_grad_()
    x_t = torch.randn(2, 3, 37, 32, generator=random).to(device, dtype)
    monkeypatch.setenv("EDGEFM_KERNELS", backend)
    value = relation_kl(x_s, x_t, 6, 0.5)
    value.backward()
    monkeypatch.setenv("EDGEFM_KERNELS", "reference")
    wide = x_s.detach().double().requires_grad_()
    maps = []
    for x in (wide, x_t.double()):
        side = x.transpose(1, 2).flatten(2).unflatten(2, (6, -1)).transpose(1, 2)
        maps.append((side @ side.mT / math.sqrt(side.shape[-1]) / 0.5).log_softmax(-1))
    exact = (maps[1].exp() * (maps[1] - maps[0])).sum(-1).mean()
    exact.backward()
    eps = torch.finfo(dtype).eps
    assert abs(value.item() - exact.item()) <= 8 * eps * abs(exact.item())
    assert (x_s.grad.double() - wide.grad).abs().max() <= 8 * eps * wide.grad.abs().max()


def memory_is_linear(shape: Case, dtype: torch.dtype) -> int:
    """Bytes that a forward and a backward hold at their peak above the inputs, on a GPU."""
    of = tensors(shape, "cuda", dtype)
    run(shape, of, dtype)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    q, k = (x.requires_grad_() for x in of[:2])
    attention_kl(q, k, *of[2:], heads=shape.heads).backward()
    return torch.cuda.max_memory_allocated() - before
