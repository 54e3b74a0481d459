"""attention_kl forward and backward on a GPU, beside plain PyTorch and the same compiled: time, peak memory, error, roofline.

Not a test. flex_attention is no peer: it returns attention's output and log-sum-exp, never a map, and a divergence between two
maps needs both at each place. The peer keeps scores in the input's type and softmaxes to fp32, its best setting that is right.

    python benchmarks/gpu_attention_kl.py [--quick] [--sweep] [--out FILE.json]
    TRITON_INTERPRET=1 python benchmarks/gpu_attention_kl.py --device cpu      every line once, tiny, no times worth having
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgefm.kernels.ops.attention_kl import attention_kl

# name -> images, tokens, student heads, teacher heads, form; all heads of 64
SHAPES = {
    "ViT-B to ViT-Ti, mean, N = 197": (64, 197, 3, 12, "mean"),
    "12 relation heads, pairs, N = 197": (64, 197, 12, 12, "pairs"),
    "ViT-L to ViT-S, mean, N = 1370": (8, 1370, 6, 16, "mean"),
    "16 relation heads, pairs, N = 1370": (8, 1370, 16, 16, "pairs"),
}
TINY = {"mean": (1, 37, 2, 3, "mean"), "pairs": (1, 37, 2, 2, "pairs")}
TILES = {
    "lse": [(64, 64, 4, 3), (128, 64, 4, 3), (128, 128, 8, 3)],
    "rows": [(64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 3), (128, 128, 8, 2)],
    "columns": [(64, 64, 4, 3), (64, 64, 8, 3), (64, 128, 8, 3), (128, 128, 8, 2)],
    "mean_rows": [(64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 3), (64, 128, 8, 3), (128, 128, 8, 3)],
    "mean_columns": [(64, 64, 4, 3), (64, 64, 8, 3), (64, 128, 8, 3), (128, 64, 8, 3), (128, 128, 8, 3)],
}


def eager(q_s, k_s, q_t, k_t, heads):
    """The divergence as it is usually written."""
    scale = q_s.shape[-1] ** -0.5
    s, t = ((q * scale @ k.mT).softmax(-1, dtype=torch.float32) for q, k in ((q_s, k_s), (q_t, k_t)))
    if heads == "mean":
        s, t = s.mean(1), t.mean(1)
    return (t * (t.clamp_min(1e-30).log() - s.clamp_min(1e-30).log())).sum(-1).mean()


def fused(q_s, k_s, q_t, k_t, heads):
    return attention_kl(q_s, k_s, q_t, k_t, heads=heads)


def made(shape, device, dtype):
    images, tokens, student, teacher, _ = shape
    random = torch.Generator(device).manual_seed(0)
    sizes = [(images, heads, tokens, 64) for heads in (student, student, teacher, teacher)]
    q, k, *others = (torch.randn(size, generator=random, device=device, dtype=dtype) for size in sizes)
    return q.requires_grad_(), k.requires_grad_(), *others


def step(call, of, heads):
    of[0].grad = of[1].grad = None
    value = call(*of, heads)
    value.backward()
    return [value.detach(), of[0].grad, of[1].grad]


def times(calls, device, seconds):
    """Median milliseconds of each, in turn, with a cold L2."""
    if device == "cpu":
        return {name: _once(call) for name, call in calls.items()}
    flush = torch.empty(256 << 20, dtype=torch.int8, device=device)
    taken = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            flush.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            torch.cuda.synchronize()
            taken[name].append(start.elapsed_time(stop))
    return {name: statistics.median(each) for name, each in taken.items()}


def _once(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def graphed(call):
    """`call` as a CUDA graph: the GPU's own time, without the launches."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak(call, device):
    """MiB above what was held before."""
    if device == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def rates(device, seconds):
    """Measured bytes/s of a copy and operations/s of a bf16 product."""
    n, size = (8192, 1 << 28) if device == "cuda" else (64, 1 << 12)
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    x, y = (torch.empty(size, dtype=torch.int8, device=device) for _ in range(2))
    took = times({"copy": lambda: y.copy_(x), "product": lambda: a @ a}, device, seconds)
    return 2 * size / took["copy"] * 1e3, 2 * n**3 / took["product"] * 1e3


def work(shape):
    """Bytes that must move, matrix operations and exponentials, forward and backward."""
    images, tokens, student, teacher, heads = shape
    sides = images * tokens * 64 * 2
    cells = images * tokens * tokens
    products = (4 + 3) * student if heads == "pairs" else 3 * teacher + (2 + 3 + 3) * student
    exponentials = 4 * student if heads == "pairs" else 3 * teacher + 5 * student
    return sides * (6 * student + 4 * teacher), 2 * 64 * cells * products, cells * exponentials


def measure(shape, device, dtype, seconds, rate):
    of, heads = made(shape, device, dtype), shape[4]
    contenders = {"edgefm": fused, "eager": eager}
    if device == "cuda":
        contenders["compiled"] = torch.compile(eager)
    exact_of = [x[:1].detach().double() for x in of]
    exact = step(eager, [exact_of[0].requires_grad_(), exact_of[1].requires_grad_(), *exact_of[2:]], heads)
    first = [x[:1].detach() for x in of]
    errors = {}
    for name, call in contenders.items():
        got = step(call, [first[0].clone().requires_grad_(), first[1].clone().requires_grad_(), *first[2:]], heads)
        errors[name] = [float((g.double() - e).abs().max() / e.abs().max()) for g, e in zip(got, exact)]
    calls = {name: (lambda call=call: step(call, of, heads)) for name, call in contenders.items()}
    taken = times(calls, device, seconds)
    memory = {name: peak(call, device) for name, call in calls.items()}
    moved, operations, exponentials = work(shape)
    roof = max(moved / rate[0], operations / rate[1]) * 1e3
    result = {"ms": taken, "peak_mib": memory, "relative_error_value_dq_dk": errors, "roofline_ms": roof}
    result |= {"exponentials": exponentials, "times_eager": taken["eager"] / taken["edgefm"]}
    if device == "cuda":
        result["graph_ms"] = times({name: graphed(call) for name, call in calls.items()}, device, seconds)
    return result


def sweep(shape, device, dtype, seconds):
    """Milliseconds of forward and backward with each tile of one kernel, the others as they are."""
    from edgefm.kernels.triton import attention_kl as module

    of, heads, found = made(shape, device, dtype), shape[4], {}
    for kernel in ("rows", "columns") if heads == "pairs" else ("lse", "mean_rows", "mean_columns"):
        for tile in TILES[kernel] if device == "cuda" else [(32, 32, 4, 1)]:
            module.FORCED = {kernel: module.Tile(*tile)}
            found[f"{kernel} {tile}"] = times({"": lambda: step(fused, of, heads)}, device, seconds)[""]
    module.FORCED = {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--sweep", action="store_true", help="also every tile")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    seconds = 0.5 if args.quick else 3.0
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    if args.device == "cpu":
        os.environ["EDGEFM_KERNELS"] = "triton"
    rate = rates(args.device, seconds)
    card = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    result = {"script": "benchmarks/gpu_attention_kl.py", "card": card, "torch": torch.__version__, "dtype": str(dtype)}
    result |= {"copy_bytes_per_s": rate[0], "bf16_operations_per_s": rate[1], "shapes": {}}
    for name, shape in (SHAPES if args.device == "cuda" else TINY).items():
        result["shapes"][name] = measure(shape, args.device, dtype, seconds, rate)
        if args.sweep:
            result["shapes"][name]["sweep_ms"] = sweep(shape, args.device, dtype, seconds / 5)
        print(name, json.dumps(result["shapes"][name], indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
