"""Attention with importance, and with a bias's gradient, against what PyTorch offers: eager, compiled, SDPA, flex_attention.

Not plain attention, which EdgeFM leaves to SDPA. Random bf16 data, 12 heads of 64.

    python benchmarks/gpu_attention.py [--quick] [--sweep] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=attention=triton python benchmarks/gpu_attention.py --device cpu    (dry run, tiny shapes)

Three jobs: `importance` (out and importance, forward), `importance step` (the same, then backward from out), `bias step`
(forward and backward with the gradient of a bias [1, H, N, N]). Medians of contenders in turn, L2 flushed before each; the
card's time alone, without what Python takes to launch. Beside each time: its largest error against fp64, over the largest
value. --sweep also times each kernel's other blocks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgefm.kernels.ops.attention import attention

SIZES = ((64, 12, 197, 64), (16, 12, 577, 64), (8, 12, 1370, 64))
TINY = ((2, 2, 21, 16),)
TARGET = 1.5
PAUSE = 4_000_000  # clock ticks that the card waits while Python queues the work, so that launching is not in the time
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


def times(calls: dict[str, Callable[[], Any]], device: str, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds, of calls in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    if device != "cuda":
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                taken[name].append(1000 * (time.perf_counter() - start))
    else:
        flush = torch.empty(2**28, dtype=torch.int8, device=device)
        for _ in range(rounds):
            for name, call in calls.items():
                flush.zero_()
                torch.cuda._sleep(PAUSE)
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                call()
                end.record()
                end.synchronize()
                taken[name].append(start.elapsed_time(end))
    return {
        name: {"p50": round(statistics.median(t), 4), "p95": round(sorted(t)[int(0.95 * (len(t) - 1))], 4)}
        for name, t in taken.items()
    }


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


def roofline(job: str, size: tuple[int, int, int, int], rates: dict[str, float]) -> dict[str, float]:
    """Bytes that must move and operations that must be done, and the milliseconds of the slower of the two."""
    b, h, n, d = size
    token, product = 2 * b * h * n * d, 2 * b * h * n * n * d
    moved = {"importance": 4, "importance step": 12, "bias step": 12}[job] * token
    moved += 6 * h * n * n if job == "bias step" else 0
    operations = {"importance": 3, "importance step": 8, "bias step": 7}[job] * product
    ms = max(moved / rates["bytes"], operations / rates["operations"]) * 1000 if rates else 0.0
    return {"bytes": moved, "operations": operations, "ms": round(ms, 4)}


def measured_rates(device: str) -> dict[str, float]:
    """Bytes a second of a copy (read and written), and operations a second of a bf16 product; empty without a GPU."""
    if device != "cuda":
        return {}
    source, side = torch.empty(2**29, dtype=torch.int8, device=device), 8192
    target, a = torch.empty_like(source), torch.randn(side, side, device=device, dtype=torch.bfloat16)
    found = times({"copy": lambda: target.copy_(source), "product": lambda: a @ a}, device, 12)
    return {"bytes": 2**30 / found["copy"]["p50"] * 1000, "operations": 2 * side**3 / found["product"]["p50"] * 1000}


def compare(job: str, size: tuple[int, int, int, int], device: str, rounds: int, rates: dict[str, float]) -> dict[str, Any]:
    """All contenders at one job and size. One that fails (no memory, no such option) says why and is left out."""
    given = data(job, size, device, torch.bfloat16)
    exact, calls, wrong, failed = exact_answers(job, given), {}, {}, {}
    for name, f in contenders(job, device).items():
        try:
            wrong[name] = errors(f(*given), exact)
            f(*given)
            calls[name] = lambda f=f: f(*given)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:300]
    del exact
    found = times(calls, device, rounds)
    best = min((t["p50"], name) for name, t in found.items() if name != "EdgeFM")
    ratio = best[0] / found["EdgeFM"]["p50"] if "EdgeFM" in found else 0.0
    lines = {name: {**t, "error": float(f"{wrong[name]:.2g}")} for name, t in found.items()}
    limit = roofline(job, size, rates)
    print(f"\n{job} {list(size)}: {ratio:.2f} times the best peer ({best[1]}), target {TARGET}; roofline {limit['ms']} ms")
    for name, line in lines.items():
        print(f"  {name:28s} {line['p50']:9.3f} ms (p95 {line['p95']:.3f})  error {line['error']:.1e}")
    for name, why in failed.items():
        print(f"  {name:28s} failed: {why}")
    return {
        "job": job, "size": size, "contenders": lines, "failed": failed, "best_peer": best[1],
        "times_as_fast": round(ratio, 3), "target": TARGET, "roofline": limit,
    }  # fmt: skip


def sweep(size: tuple[int, int, int, int], rounds: int) -> dict[str, dict[str, float]]:
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
                f(*given)
                found[kernel][str(blocks)] = times({"": lambda f=f, given=given: f(*given)}, "cuda", rounds)[""]["p50"]
            except Exception as error:
                print(f"  {kernel} {blocks}: {type(error).__name__}: {error}"[:200])
        launcher.HOPPER.clear()
        launcher.HOPPER.update(before)
        print(f"  {kernel} {list(size)}: {found[kernel]}")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and write JSON to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without the job `importance step`")
    parser.add_argument("--sweep", action="store_true", help="also other blocks (cc 9.0)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    gpu = options.device == "cuda"
    rounds = (15 if options.quick else 60) if gpu else 2
    jobs = ["importance", "bias step"] + ([] if options.quick else ["importance step"])
    rates = measured_rates(options.device)
    result: dict[str, Any] = {
        "script": "benchmarks/gpu_attention.py",
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
        "rates": rates,
        "results": [],
    }
    for job in jobs:
        for size in SIZES if gpu else TINY:
            torch.compiler.reset()
            result["results"].append(compare(job, size, options.device, rounds, rates))
            if gpu:
                torch.cuda.empty_cache()
    if options.sweep and gpu:
        result["sweep"] = {str(size): sweep(size, 10) for size in SIZES}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
