"""Attention with importance, and with a bias's gradient, against what PyTorch offers: eager, compiled, SDPA, flex_attention.

Not plain attention, which EdgeFM leaves to SDPA. Random bf16 data, 12 heads of 64.

    python benchmarks/gpu_attention.py [--quick] [--sweep] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=attention=triton python benchmarks/gpu_attention.py --device cpu    (dry run, tiny shapes)

Three jobs: `bias step` (forward and backward with the gradient of a bias [1, H, N, N]), `importance` (out and importance,
forward), `importance step` (the same, then backward from out). The card's time alone, without what Python takes to launch.
Beside each time: its largest error against fp64, over the largest value; beside a bias step which kernels EdgeFM and the best
peer launch, asked after all times. flex_attention reads the bias as a captured tensor; where its version has no gradient for
one, its line says so. --sweep also times each kernel's other blocks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from gpu_contenders import why
from gpu_measure import Clock, Run, options
from torch import Tensor

from edgefm.kernels.ops.attention import attention

SIZES = ((64, 12, 197, 64), (16, 12, 577, 64), (8, 12, 1370, 64))
TINY = ((2, 2, 21, 16),)
TARGET = 1.5
PAUSE = 10_000_000  # clock ticks, 5 ms, that the card waits while Python queues the work: launching is not in the time
CANDIDATES = {
    "forward": ((128, 64, 4, 3), (128, 64, 8, 3), (64, 64, 4, 3), (128, 128, 8, 2), (128, 32, 4, 3)),
    "importance": ((64, 128, 4, 3), (64, 64, 4, 3), (64, 128, 8, 3), (128, 64, 4, 2)),
    "rows": ((128, 64, 8, 2), (64, 64, 4, 3), (64, 64, 4, 2), (64, 32, 4, 3), (128, 32, 8, 3)),
    "columns": ((64, 128, 8, 2), (64, 64, 4, 2), (32, 64, 4, 2), (32, 128, 8, 3), (32, 64, 4, 3)),
    "tiles": ((128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 8, 3), (128, 64, 8, 3), (64, 128, 8, 2)),
}
Job = Callable[..., tuple[Tensor, ...]]


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """out and importance, the map in memory."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    p = (scores if bias is None else scores + bias).softmax(-1)
    return p @ v, p.mean(-2, dtype=torch.promote_types(q.dtype, torch.float32))


def plain_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return plain(q, k, v, bias)[0]


def sdpa_then_map(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The fast output, and the map a second time for its columns, without gradient."""
    out = F.scaled_dot_product_attention(q, k, v)
    with torch.no_grad():
        p = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        return out, p.mean(-2, dtype=torch.float32)


def flex_then_columns(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """flex_attention with its lse, and a pass that turns it into columns, which a compiler may fuse."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    out, aux = flex_attention(q, k, v, return_aux=AuxRequest(lse=True))
    with torch.no_grad():
        p = (q @ k.mT * q.shape[-1] ** -0.5 - aux.lse[..., None]).exp()
        return out, p.mean(-2, dtype=torch.float32)


def flex_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    table = bias[0]
    return flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score + table[h, i, j])


def edgefm_importance(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    told = attention(q, k, v, want_importance=True)
    assert told.importance is not None
    return told.out, told.importance


def edgefm_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return attention(q, k, v, bias).out


def sdpa_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def importance_step(f: Job) -> Job:
    """`f` and the gradients that its out brings."""

    def step(q: Tensor, k: Tensor, v: Tensor, d_out: Tensor) -> tuple[Tensor, ...]:
        out, importance = f(q, k, v)
        return out.detach(), importance.detach(), *torch.autograd.grad(out, (q, k, v), d_out)

    return step


def bias_step(f: Callable[..., Tensor]) -> Job:
    """`f`, and the gradients of q, k, v and the bias."""

    def step(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, d_out: Tensor) -> tuple[Tensor, ...]:
        out = f(q, k, v, bias)
        return out.detach(), *torch.autograd.grad(out, (q, k, v, bias), d_out)

    return step


def contenders(job: str, device: str) -> dict[str, Job]:
    """Each way to do `job`; compiled only on a GPU."""
    gpu = device == "cuda"

    def compiled(f: Any) -> Any:
        return torch.compile(f, dynamic=False)

    if job == "bias step":
        ways: dict[str, Any] = {"EdgeFM": edgefm_bias, "eager": plain_out, "SDPA": sdpa_bias}
        if gpu:
            ways |= {"compiled eager": compiled(plain_out), "flex_attention": compiled(flex_bias)}
        return {name: bias_step(f) for name, f in ways.items()}
    ways = {"EdgeFM": edgefm_importance, "eager": plain, "SDPA + map": sdpa_then_map}
    if gpu:
        ways |= {"compiled eager": compiled(plain), "compiled SDPA + map": compiled(sdpa_then_map)}
        ways["flex_attention + columns"] = compiled(flex_then_columns)
    return {name: importance_step(f) for name, f in ways.items()} if job == "importance step" else ways


def data(job: str, size: tuple[int, int, int, int], device: str, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v as a projection leaves them, `[B, H, N, D]`; then what `job` takes besides."""
    b, h, n, d = size
    torch.manual_seed(0)
    train = job != "importance"
    given = list(torch.randn(b, n, 3, h, d).to(device, dtype).permute(2, 0, 3, 1, 4))
    if job == "bias step":
        given.append(torch.randn(1, h, n, n).to(device, dtype))
    given = [t.detach().requires_grad_(train) for t in given]
    if train:
        given.append(torch.randn(b, n, h, d).to(device, dtype).transpose(1, 2))
    return given


def errors(told: tuple[Tensor, ...], exact: list[Tensor]) -> float:
    """The largest error of any answer, over the largest value of that answer."""
    return max(((a.double() - e).abs().max() / e.abs().max()).item() for a, e in zip(told, exact))


def exact_answers(job: str, given: list[Tensor]) -> list[Tensor]:
    """The job in fp64, two images at a time; the gradient of a shared bias summed over all."""
    b, pieces = given[0].shape[0], []
    f = {"importance": plain, "importance step": importance_step(plain), "bias step": bias_step(plain_out)}[job]
    for start in range(0, b, 2):
        some = [t.detach() if t.shape[0] == 1 < b else t.detach()[start : start + 2] for t in given]
        pieces.append(f(*(t.double().requires_grad_(job != "importance" and i < len(some)) for i, t in enumerate(some))))
    joined = [torch.cat(parts) for parts in zip(*pieces)]
    if job == "bias step":
        joined[-1] = torch.stack([piece[-1] for piece in pieces]).sum(0)
    return joined


def work(job: str, size: tuple[int, int, int, int]) -> tuple[int, int]:
    """Bytes that must move and operations that must be done."""
    b, h, n, d = size
    token, product = 2 * b * h * n * d, 2 * b * h * n * n * d
    moved = {"importance": 4, "importance step": 12, "bias step": 12}[job] * token
    moved += 6 * h * n * n if job == "bias step" else 0
    return moved, {"importance": 3, "importance step": 8, "bias step": 7}[job] * product


def compare(run: Run, job: str, size: tuple[int, int, int, int]) -> dict[str, Any]:
    """All contenders at one job and size. One that fails (no memory, no such option) says why and is left out; without EdgeFM
    or without any peer there is no ratio."""
    device = "cuda" if run.card else "cpu"
    label, given = f"{job}, N = {size[2]}", data(job, size, device, torch.bfloat16)
    calls = {name: partial(f, *given) for name, f in contenders(job, device).items()}
    able, wrong, failed = run.tried(label, calls, partial(errors, exact=exact_answers(job, given)))
    found = run.clock.times(able)
    best = min((name for name in found if name != "EdgeFM"), key=lambda name: found[name].p50, default=None)
    ratio = None if best is None or "EdgeFM" not in found else round(found[best].p50 / found["EdgeFM"].p50, 3)
    limit = run.roofline(*work(job, size), found.get("EdgeFM"))
    said = "no ratio" if ratio is None else f"{ratio:.2f} times the best peer ({best})"
    print(f"\n{job} {list(size)}: {said}, target {TARGET}; roofline {limit}")
    for name, t in found.items():
        print(f"  {name:28s} {t.p50:9.3f} ms (p95 {t.p95:.3f})  error {wrong[name]:.1e}")
    run.goal(label, best or "any peer", TARGET, {}, found)
    row = {
        "job": job, "shape": size, "times_best_peer": ratio, "best_peer": best, "roofline": limit, "failed": failed,
        "contenders": {
            name: {"p50_ms": t.p50, "p95_ms": t.p95, "error": float(f"{wrong[name]:.2g}")} for name, t in found.items()
        },
    }  # fmt: skip
    if job == "bias step":
        run.profile(label, row, {name: able[name] for name in ("EdgeFM", best) if name in able})
    return row


def sweep(size: tuple[int, int, int, int], clock: Clock) -> dict[str, dict[str, float]]:
    """Milliseconds of EdgeFM's job with other blocks, one kernel changed at a time."""
    from edgefm.kernels.triton import attention as launcher

    found: dict[str, dict[str, float]] = {}
    for kernel, candidates in CANDIDATES.items():
        job, f = ("importance", edgefm_importance) if kernel == "importance" else ("bias step", bias_step(edgefm_bias))
        given, key = data(job, size, "cuda", torch.bfloat16), (kernel, 16, 64)
        before, found[kernel] = dict(launcher.HOPPER), {}
        for blocks in candidates:
            launcher.HOPPER[key] = launcher.Blocks(*blocks)
            try:
                found[kernel][str(blocks)] = clock.times({"": lambda f=f, given=given: f(*given)})[""].p50
            except Exception as error:
                print(f"  {kernel} {blocks}: {why(error)}")
        launcher.HOPPER.clear()
        launcher.HOPPER.update(before)
        print(f"  {kernel} {list(size)}: {found[kernel]}")
    return found


def main() -> int:
    parser = options(__doc__, "fewer rounds, without the job `importance step`")
    parser.add_argument("--sweep", action="store_true", help="also other blocks (cc 9.0)")
    asked = parser.parse_args()
    run = Run(asked, Clock(asked.device, 15 if asked.quick else 60, pause=PAUSE))
    rows: list[dict[str, Any]] = []
    for job in ("bias step", "importance") if asked.quick else ("bias step", "importance", "importance step"):
        for size in SIZES if run.card else TINY:
            found = run.row(f"{job}, N = {size[2]}", partial(compare, run, job, size))
            if found is not None:
                rows.append(found)
                run.save(rows=rows)
    if asked.sweep and run.card:
        clock = Clock(asked.device, 10, pause=PAUSE)
        run.save(sweep={str(size): run.row(f"sweep {size}", partial(sweep, size, clock)) for size in SIZES})
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
