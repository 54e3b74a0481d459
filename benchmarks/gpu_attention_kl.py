"""attention_kl forward and backward on a GPU against eager PyTorch, the same compiled, and what flex_attention can do of it.

Not a test. Beside each time: peak memory, error against fp64, the roofline, and which kernels EdgeFM and the best peer launch,
asked after all times; then the peak over the number of tokens. The eager peer keeps scores in the input's type and softmaxes to
fp32, its best setting that is right.

    python benchmarks/gpu_attention_kl.py [--quick] [--sweep] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=attention_kl=triton python benchmarks/gpu_attention_kl.py --device cpu   (dry run)

flex_attention never shows a map. In pairs of heads none is needed (see `flexible`); the mean over heads stands inside the
logarithm, so there it is no peer. Its backward needs a GPU.

What fell short on an H200 at 197 tokens (target: 5 times eager): in pairs it is 9.8 times as fast on the card; the heads'
mean only 2.1 times, since no head's share is known before all heads have been seen, and each map is made three times. As
Python called it both were near eager or slower: 1.4 ms, of which the card worked 0.2 to 0.3; a call takes 0.3 less of
Python's time since, not timed on a card.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gpu_contenders import why
from gpu_measure import Clock, Run, options
from torch import Tensor

from edgefm.kernels.ops.attention_kl import attention_kl

# name -> images, tokens, student heads, teacher heads, form; all heads of 64
SHAPES = {
    "ViT-L to ViT-S, mean, N = 1370": (8, 1370, 6, 16, "mean"),
    "16 relation heads, pairs, N = 1370": (8, 1370, 16, 16, "pairs"),
    "ViT-B to ViT-Ti, mean, N = 197": (64, 197, 3, 12, "mean"),
    "12 relation heads, pairs, N = 197": (64, 197, 12, 12, "pairs"),
}
TINY = {"mean": (1, 37, 2, 3, "mean"), "pairs": (1, 37, 2, 2, "pairs")}
LENGTHS, SHORT = (512, 1024, 2048, 4096), (8, 16)  # tokens over which the peak memory is shown
TARGETS = {197: {"eager": 5.0, "compiled": 1.0}, 1370: {"eager": 10.0, "compiled": 1.0}}
TILES = {
    "lse": [(64, 64, 4, 3), (128, 64, 4, 3), (128, 128, 8, 3)],
    "rows": [(64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 3), (128, 128, 8, 2)],
    "columns": [(64, 64, 4, 3), (64, 64, 8, 3), (64, 128, 8, 3), (128, 128, 8, 2)],
    "mean_rows": [(64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 3), (64, 128, 8, 3), (128, 128, 8, 3)],
    "mean_columns": [(64, 64, 4, 3), (64, 64, 8, 3), (64, 128, 8, 3), (128, 64, 8, 3), (128, 128, 8, 3)],
}
Shape = tuple[int, int, int, int, str]


def eager(q_s: Tensor, k_s: Tensor, q_t: Tensor, k_t: Tensor, heads: str) -> Tensor:
    """The divergence as it is usually written."""
    scale = q_s.shape[-1] ** -0.5
    s, t = ((q * scale @ k.mT).softmax(-1, dtype=torch.float32) for q, k in ((q_s, k_s), (q_t, k_t)))
    if heads == "mean":
        s, t = s.mean(1), t.mean(1)
    return (t * (t.clamp_min(1e-30).log() - s.clamp_min(1e-30).log())).sum(-1).mean()


def flexible(q_s: Tensor, k_s: Tensor, q_t: Tensor, k_t: Tensor, heads: str) -> Tensor:
    """The divergence in pairs of heads out of attention's outputs and log-sum-exps, which flex_attention has:

        KL_i = E_t[S_t - S_s] - lse_t + lse_s,   E_t[S_x] = scale · q_x,i · sum_j P_t,ij k_x,j

    so the teacher attends to both sides' keys as values, and of the student only the log-sum-exp is wanted."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    assert heads == "pairs"
    width, lse = q_s.shape[-1], AuxRequest(lse=True)
    met, teacher = flex_attention(q_t, k_t, torch.cat([k_t, k_s], -1), return_aux=lse)
    _, student = flex_attention(q_s, k_s, k_s, return_aux=lse)
    met_t, met_s = met.float().split([k_t.shape[-1], width], -1)
    expected = ((q_t.float() * met_t).sum(-1) - (q_s.float() * met_s).sum(-1)) * width**-0.5
    return (expected - teacher.lse + student.lse).mean()


def fused(q_s: Tensor, k_s: Tensor, q_t: Tensor, k_t: Tensor, heads: str) -> Tensor:
    return attention_kl(q_s, k_s, q_t, k_t, heads=heads)


def contenders(heads: str, device: str) -> dict[str, Callable[..., Tensor]]:
    """Each way to compute it; compiled only on a GPU."""
    ways = {"edgefm": fused, "eager": eager}
    if device == "cuda":
        ways["compiled"] = torch.compile(eager, dynamic=False)
        if heads == "pairs":
            ways["flex_attention"] = torch.compile(flexible, dynamic=False)
    return ways


def made(shape: Shape, device: str, dtype: torch.dtype) -> list[Tensor]:
    """q_s, k_s, q_t, k_t; the student's want a gradient."""
    images, tokens, student, teacher, _ = shape
    random = torch.Generator(device).manual_seed(0)
    sizes = [(images, heads, tokens, 64) for heads in (student, student, teacher, teacher)]
    q, k, *others = (torch.randn(size, generator=random, device=device, dtype=dtype) for size in sizes)
    return [q.requires_grad_(), k.requires_grad_(), *others]


def step(call: Callable[..., Tensor], of: list[Tensor], heads: str) -> list[Tensor]:
    """The value and its gradients for q_s and k_s."""
    of[0].grad = of[1].grad = None
    value = call(*of, heads)
    value.backward()
    return [value.detach(), of[0].grad, of[1].grad]


def peak(call: Callable[[], object], device: str) -> float | None:
    """MiB above what was held before."""
    if device == "cpu":
        call()
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def work(shape: Shape) -> tuple[int, int, int]:
    """Bytes that must move, matrix operations and exponentials, forward and backward."""
    images, tokens, student, teacher, heads = shape
    sides = images * tokens * 64 * 2
    cells = images * tokens * tokens
    products = (4 + 3) * student if heads == "pairs" else 3 * teacher + (2 + 3 + 3) * student
    exponentials = 4 * student if heads == "pairs" else 3 * teacher + 5 * student
    return sides * (6 * student + 4 * teacher), 2 * 64 * cells * products, cells * exponentials


def exact_answers(of: list[Tensor], heads: str) -> list[Tensor]:
    """`step` in fp64, an image at a time: the value is their mean."""
    parts = []
    for image in range(len(of[0])):
        one = [x[image : image + 1].detach().double() for x in of]
        parts.append(step(eager, [one[0].requires_grad_(), one[1].requires_grad_(), *one[2:]], heads))
    values, dq, dk = zip(*parts)
    return [torch.stack(values).mean(), torch.cat(dq) / len(parts), torch.cat(dk) / len(parts)]


def errors(answers: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Of the value, dq and dk: the largest against fp64, over the largest value."""
    return [float((mine.double() - true).abs().max() / true.abs().max()) for mine, true in zip(answers, exact)]


def compare(run: Run, name: str, shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
    """One row: all contenders. One that fails says why and is left out."""
    device = "cuda" if run.card else "cpu"
    of, heads = made(shape, device, dtype), shape[4]
    calls = {peer: partial(step, call, of, heads) for peer, call in contenders(heads, device).items()}
    able, wrong, failed = run.tried(name, calls, partial(errors, exact=exact_answers(of, heads)))
    called = run.clock.times(able)
    memory = {peer: peak(call, device) for peer, call in able.items()}
    moved, operations, exponentials = work(shape)
    alone, refused = run.clock.alone(able)
    found: dict[str, Any] = {
        "ms": {peer: each.p50 for peer, each in called.items()},
        "peak_mib": memory,
        "relative_error_value_dq_dk": wrong,
        "failed": failed,
        "roofline": run.roofline(moved, operations, (alone or called).get("edgefm")) | {"exponentials": exponentials},
    }
    if run.card:
        found |= {"graph_ms": {peer: each.p50 for peer, each in alone.items()}, "no graph": refused}
        if {"eager", "edgefm"} <= called.keys():
            found["times_eager"] = called["eager"].p50 / called["edgefm"].p50
        for peer, at_least in TARGETS[shape[1]].items():
            run.goal(name, peer, at_least, called, alone, ours="edgefm")
    times = alone or called
    peers = sorted((peer for peer in times if peer != "edgefm"), key=lambda peer: times[peer].p50)[:1]
    run.profile(name, found, {peer: able[peer] for peer in ("edgefm", *peers) if peer in able})
    return found


def memory_over_tokens(device: str, dtype: torch.dtype) -> dict[str, dict[str, list[Any]]]:
    """form -> contender -> peak MiB at each of LENGTHS, one image, 6 heads of either side: O(N) doubles, O(N²) quadruples."""
    found: dict[str, dict[str, list[Any]]] = {}
    for heads in ("mean", "pairs"):
        found[heads] = {"tokens": list(LENGTHS if device == "cuda" else SHORT)}
        for name, call in (("edgefm", fused), ("eager", eager)):
            peaks = []
            for tokens in found[heads]["tokens"]:
                of = made((1, tokens, 6, 6, heads), device, dtype)
                step(call, of, heads)  # what is kept for good is kept now
                peaks.append(peak(lambda call=call, of=of, heads=heads: step(call, of, heads), device))
            found[heads][name] = peaks
    return found


def sweep(shape: Shape, device: str, dtype: torch.dtype, clock: Clock) -> dict[str, float | str]:
    """Milliseconds of forward and backward with each tile of one kernel, the others as they are; or why not."""
    from edgefm.kernels.triton import attention_kl as module
    from edgefm.kernels.triton.measured import held

    of, heads = made(shape, device, dtype), shape[4]
    width = max(module.padded(each.shape[3]) for each in of[:4])
    found: dict[str, float | str] = {}
    for kernel in ("rows", "columns") if heads == "pairs" else ("lse", "mean_rows", "mean_columns"):
        for tile in TILES[kernel] if device == "cuda" else [(32, 32, 4, 1)]:
            try:
                with held({module.key(kernel, width, dtype.itemsize): tile}):
                    found[f"{kernel} {tile}"] = clock.times({"": lambda: step(fused, of, heads)})[""].p50
            except Exception as error:  # more shared memory than there is
                found[f"{kernel} {tile}"] = why(error)
    return found


def main() -> int:
    parser = options(__doc__, "half a second for a row's times, not three")
    parser.add_argument("--sweep", action="store_true", help="also every tile")
    asked = parser.parse_args()
    seconds = 0.5 if asked.quick else 3.0
    run = Run(asked, Clock(asked.device, seconds=seconds))
    dtype = torch.bfloat16 if run.card else torch.float32
    cases: dict[str, dict[str, Any]] = {}
    facts = {"dtype": str(dtype), "cases": cases}
    for name, shape in (SHAPES if run.card else TINY).items():
        found = run.row(name, partial(compare, run, name, shape, dtype))
        if found is not None:
            cases[name] = found
            print(name, json.dumps(found, indent=1), flush=True)
            run.save(**facts)
    memory = run.row("peak memory over tokens", partial(memory_over_tokens, asked.device, dtype))
    if memory is not None:
        print("peak MiB over tokens", json.dumps(memory), flush=True)
        run.save(peak_mib_over_tokens=memory)
    for name in [*cases] if asked.sweep else ():
        shape, clock = (SHAPES | TINY)[name], Clock(asked.device, seconds=seconds / 5)
        swept = run.row(f"sweep of {name}", partial(sweep, shape, asked.device, dtype, clock))
        if swept is not None:
            cases[name]["sweep_ms"] = swept
            run.save(**facts)
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
