"""The CUDA C++ kernels at batch 1 against their peers, on a card: LoRA on NF4 and int8, attention with a bias.

Not a test: correctness is printed beside each time, as error over what is allowed; tests/kernels/test_cuda.py holds it.

    EDGEFM_CUDA=1 EDGEFM_CUDA_ARCHS="90" python setup.py build_ext --inplace
    python benchmarks/gpu_cuda.py --quick --out results.json        (--device cpu: a dry run of the peers on tiny shapes)

Two times each, in microseconds: `graph`, on the card alone (a replayed CUDA graph: no launch cost of Python), and `eager`, as
called. One row of x is memory-bound: its bytes are those of W.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from gpu_contenders import why
from gpu_measure import Clock, Run, options
from measure import SKIPPED

from edgefm.kernels.cuda.attention import attention_bias
from edgefm.kernels.cuda.lora import lora_linear_int8, lora_linear_nf4
from edgefm.kernels.cuda.module import obstacle
from tests.kernels import cuda_cases as cases

LAYERS = {  # in, out
    "ViT-B qkv": (768, 2304),
    "ViT-B proj": (768, 768),
    "ViT-B fc1": (768, 3072),
    "ViT-B fc2": (3072, 768),
    "ViT-L fc1": (1024, 4096),
    "ViT-L fc2": (4096, 1024),
    "ViT-g fc1": (1536, 6144),
    "ViT-g fc2": (6144, 1536),
}
CODES: dict[str, torch.Tensor] = {}  # NF4's values on the device: a graph being captured cannot fetch them
HEADS = {"ViT-B": (12, 64), "ViT-L": (16, 64), "ViT-H": (16, 80), "ViT-g": (24, 64)}
AT_LEAST = 2.0  # one image of NF4 + LoRA, against each peer


def peft_peer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float):
    """bitsandbytes' Linear4bit, doubly quantized, under PEFT's LoRA; or the reason why not."""
    for name in ("bitsandbytes", "peft"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    try:
        import bitsandbytes
        import peft

        outer, inner = weight.shape
        base = bitsandbytes.nn.Linear4bit(
            inner, outer, compute_dtype=x.dtype, quant_type="nf4", compress_statistics=True, quant_storage=torch.uint8
        )
        base.load_state_dict({"weight": weight.cpu(), "bias": bias.cpu()})
        quantized = torch.nn.Sequential(base).to(x.device)
        quantized.is_loaded_in_4bit = True  # else PEFT takes it for an ordinary layer
        config = peft.LoraConfig(r=len(a), lora_alpha=scale * len(a), target_modules=["0"], lora_dropout=0.0)
        model = peft.get_peft_model(quantized, config).to(x.device).eval()
        layer = model.base_model.model[0]
        layer.lora_A["default"].weight.data = a.clone()
        layer.lora_B["default"].weight.data = b.clone()
        with torch.no_grad():
            model(x)
        return lambda: model(x)
    except Exception as error:
        return why(error)


def report(
    run: Run, name: str, calls: dict[str, Any], error: Callable[[torch.Tensor], float], goals: tuple[str, ...], *work: float
) -> dict[str, Any]:
    """One row. calls: contenders, or why one is none; goals: peers to be beaten; work: bytes and operations."""
    can, wrong, failed = run.tried(name, {peer: call for peer, call in calls.items() if not isinstance(call, str)}, error)
    called = run.clock.times(can)
    alone, refused = run.clock.alone(can)
    times: dict[str, Any] = failed | {peer: call for peer, call in calls.items() if isinstance(call, str)}
    for peer in can:
        times[peer] = {"eager": round(1e3 * called[peer].p50, 2)}
        if peer in alone:
            times[peer]["graph"] = round(1e3 * alone[peer].p50, 2)
        elif peer in refused:
            times[peer] |= {"graph": None, "no graph": refused[peer]}
    row = {"case": name, "times": times, "roofline": run.roofline(*work, alone.get("edgefm")), "errors over allowed": wrong}
    for peer in can if "edgefm" in can else ():
        if peer != "edgefm":
            both = [kind for kind in ("eager", "graph") if times[peer].get(kind) and times["edgefm"].get(kind)]
            row[f"{peer} / edgefm"] = {kind: times[peer][kind] / times["edgefm"][kind] for kind in both}
    for peer in goals:
        run.goal(name, peer, AT_LEAST, called, alone, ours="edgefm")
    print(json.dumps(row), flush=True)
    return row


def error_over_allowed(plain: torch.Tensor, exact: torch.Tensor) -> Callable[[torch.Tensor], float]:
    """An answer's largest error, over twice that of plain torch plus 4 eps of the largest value."""
    allowed = float(2 * (plain.double() - exact).abs().max() + 4 * torch.finfo(plain.dtype).eps * exact.abs().max())
    return lambda found: float((found.double() - exact).abs().max()) / allowed


@torch.no_grad()
def lora(run: Run, name: str, rows: int, inner: int, outer: int, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """One layer. Peers: W dequantized in one compiled kernel, then cuBLAS; bitsandbytes with PEFT; cuBLAS on 16-bit W."""
    scale, rank, device = 1.0, 16, "cuda" if run.card else "cpu"
    x, stored, state, bias, a, b = cases.lora_problem(rows, inner, outer, rank, kind, dtype, device)
    exact_weight = cases.dequantized(stored, state, outer)
    exact = cases.lora_plain(x.double(), exact_weight, bias.double(), a.double(), b.double(), scale, "none")
    dense = exact_weight.to(dtype)

    absmax = scales(state) if kind != "int8" else state[0]

    make = dequantize_int8 if kind == "int8" else dequantize_nf4
    make = torch.compile(make, dynamic=False) if run.card else make

    def product(w: torch.Tensor) -> torch.Tensor:
        return torch.addmm(torch.nn.functional.linear(x, w, bias), x @ a.T, b.T, alpha=scale)

    calls: dict[str, Any] = {
        "dequantize + cuBLAS": lambda: product(make(stored, absmax, outer, dtype)),
        "16-bit W + cuBLAS": lambda: product(dense),
    }
    goals: tuple[str, ...] = ()
    if run.card:
        if kind == "int8":
            calls["edgefm"] = lambda: lora_linear_int8(x, stored, state[0], bias, a, b, scale)
        else:
            calls["edgefm"] = lambda: lora_linear_nf4(x, stored, state, bias, a, b, scale)
            calls["bitsandbytes + PEFT"] = peft_peer(x, dense, bias, a, b, scale)
            goals = ("dequantize + cuBLAS", "bitsandbytes + PEFT")
    scale_bytes = stored.numel() * 2 // 64 * (1 if kind == "nf4-nested" else 4) if kind != "int8" else 4 * outer
    moved = stored.numel() + scale_bytes + 2 * (rows * (inner + outer) + rank * (inner + outer))
    error = error_over_allowed(cases.lora_plain(x, exact_weight, bias, a, b, scale, "none"), exact)
    return report(run, name, calls, error, goals, moved, 2 * rows * (inner * outer + rank * (inner + outer)))


def scales(state: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """NF4's absmax in fp32; not timed, in the peer's favour."""
    absmax, _, *nested = state
    return nested[1][absmax.int()] * nested[0].repeat_interleave(256)[: len(absmax)] + nested[2] if nested else absmax


def dequantize_nf4(stored: torch.Tensor, absmax: torch.Tensor, outer: int, dtype: torch.dtype) -> torch.Tensor:
    """W in `dtype`; torch.compile makes one kernel of it."""
    code = CODES[stored.device.type]
    values = code[torch.stack([stored >> 4, stored & 15], 1).int()].view(-1, 64)
    return (values * absmax[:, None]).to(dtype).view(outer, -1)


def dequantize_int8(stored: torch.Tensor, scale: torch.Tensor, outer: int, dtype: torch.dtype) -> torch.Tensor:
    """The same for int8."""
    return (stored.float() * scale[:, None]).to(dtype)


@torch.no_grad()
def attention(run: Run, name: str, heads: int, tokens: int, size: int, dtype: torch.dtype) -> dict[str, Any]:
    """One image. Peer: scaled_dot_product_attention with the bias as its mask."""
    q, k, v, bias = cases.attention_problem(1, heads, tokens, size, "full", dtype, "cuda" if run.card else "cpu")
    scale = size**-0.5
    exact = cases.attention_plain(q.double(), k.double(), v.double(), bias.double(), scale)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    padded = torch.nn.functional.pad(bias, (0, -tokens % 8))[..., :tokens]  # rows aligned, as its fast kernels want them
    calls = {"SDPA": lambda: sdpa(q, k, v, attn_mask=bias), "SDPA, rows aligned": lambda: sdpa(q, k, v, attn_mask=padded)}
    if run.card:
        calls["edgefm"] = lambda: attention_bias(q, k, v, bias)
    moved = 2 * (4 * heads * tokens * size + heads * tokens * tokens)
    error = error_over_allowed(cases.attention_plain(q, k, v, bias, scale), exact)
    return report(run, name, calls, error, (), moved, 4 * heads * tokens * tokens * size)


def rows(run: Run, quick: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Each row's name, and what measures it."""
    layers = LAYERS if run.card else {"tiny": (64, 8)}
    if quick and run.card:
        layers = {name: LAYERS[name] for name in ("ViT-B fc1", "ViT-B fc2", "ViT-L fc1", "ViT-g fc1")}
    lengths = (5,) if not run.card else (197, 1024) if quick else (197, 257, 577, 1024)
    for dtype in [torch.float16] if quick or not run.card else [torch.float16, torch.bfloat16]:
        for name, (inner, outer) in layers.items():
            for tokens in (1, 197 if run.card else 5):
                for kind in ("nf4-nested", "int8"):
                    label = f"{name} [{tokens}, {inner}] -> {outer} {kind} {dtype}"
                    yield label, partial(lora, run, label, tokens, inner, outer, kind, dtype)
        for name, (heads, size) in HEADS.items() if run.card else [("tiny", (1, 32))]:
            for tokens in lengths:
                label = f"attention {name} [1, {heads}, {tokens}, {size}] {dtype}"
                yield label, partial(attention, run, label, heads, tokens, size, dtype)


def main() -> int:
    asked = options(__doc__, "four layers, two lengths, fp16 only, fewer runs").parse_args()
    clock = Clock(asked.device, 30 if asked.quick else 200)
    if clock.card and (found := obstacle(torch.device("cuda"))) is not None:
        print(f"gpu_cuda: {found}", file=sys.stderr)
        return SKIPPED
    run = Run(asked, clock, torch.float16)
    CODES[asked.device] = cases.CODE.to(asked.device)
    measured: list[dict[str, Any]] = []
    for label, measure in rows(run, asked.quick):
        found = run.row(label, measure)
        if found is not None:
            measured.append(found)
            run.save(rows=measured)
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
