"""The CUDA C++ kernels at batch 1 against their peers, on a card: LoRA on NF4 and int8, attention with a bias.

Not a test: correctness is printed beside each time, as error over what is allowed; tests/kernels/test_cuda.py holds it.

    EDGEFM_CUDA=1 EDGEFM_CUDA_ARCHS="90" python setup.py build_ext --inplace
    python benchmarks/gpu_cuda.py --quick --out results.json        (--device cpu: a dry run of the peers on tiny shapes)

Two times each: `graph`, microseconds on the card alone (a replayed CUDA graph: no launch cost of Python), and `eager`, as
called. The second-level cache is overwritten before each. Roofline: bytes over the copy rate and operations over the matrix
rate, both measured in this run. One row of x is memory-bound: its bytes are those of W.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edgefm.kernels.cuda.attention import attention_bias  # noqa: E402
from edgefm.kernels.cuda.lora import lora_linear_int8, lora_linear_nf4  # noqa: E402
from edgefm.kernels.cuda.module import obstacle  # noqa: E402
from tests.kernels import cuda_cases as cases  # noqa: E402

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


class Clock:
    """Medians in microseconds with CUDA events, the second-level cache overwritten before each run."""

    def __init__(self, device: str, runs: int) -> None:
        self.device, self.runs = device, runs
        self.cache = torch.empty(256 << 20 if device == "cuda" else 1, dtype=torch.int8, device=device)

    def events(self, call: Callable[[], object]) -> float:
        if self.device != "cuda":
            call()
            return float("nan")
        for _ in range(5):
            call()
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(self.runs)]
        for start, end in pairs:
            self.cache.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return 1e3 * statistics.median(start.elapsed_time(end) for start, end in pairs)

    def both(self, call: Callable[[], object]) -> dict[str, Any]:
        """`eager`, and `graph` or the reason why it cannot be captured."""
        eager = self.events(call)
        if self.device != "cuda":
            return {"eager": eager}
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                call()
        except Exception as error:
            torch.cuda.synchronize()
            return {"eager": eager, "graph": None, "no graph": str(error).splitlines()[0][:120]}
        return {"eager": eager, "graph": self.events(graph.replay)}


def rates(clock: Clock) -> dict[str, float]:
    """Bytes per microsecond of a copy, read and written; operations per microsecond of a large fp16 product."""
    if clock.device != "cuda":
        return {"bytes": float("nan"), "operations": float("nan")}
    source = torch.randn(256 << 20, device="cuda")
    target, square = torch.empty_like(source), torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    return {
        "bytes": 2 * source.nbytes / clock.events(lambda: target.copy_(source)),
        "operations": 2 * 8192**3 / clock.events(lambda: square @ square),
    }


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
        return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def report(name: str, times: dict[str, Any], floor: float, errors: dict[str, float]) -> dict[str, Any]:
    ours = times.get("edgefm", {}).get("graph")
    row = {"case": name, "times": times, "roofline_us": floor, "errors over allowed": errors}
    if ours:
        row["roofline_share"] = floor / ours
        for peer, taken in times.items():
            if peer != "edgefm" and isinstance(taken, dict):
                row[f"{peer} / edgefm"] = {k: taken[k] / times["edgefm"][k] for k in ("eager", "graph") if taken.get(k)}
    print(json.dumps(row), flush=True)
    return row


def allowed(plain: torch.Tensor, exact: torch.Tensor) -> float:
    eps = torch.finfo(plain.dtype).eps
    return float(2 * (plain.double() - exact).abs().max() + 4 * eps * exact.abs().max())


@torch.no_grad()
def lora(clock: Clock, name: str, rows: int, inner: int, outer: int, kind: str, dtype: torch.dtype, rate) -> dict[str, Any]:
    """One layer. Peers: W dequantized in one compiled kernel, then cuBLAS; bitsandbytes with PEFT; cuBLAS on 16-bit W."""
    scale, rank, device = 1.0, 16, clock.device
    x, stored, state, bias, a, b = cases.lora_problem(rows, inner, outer, rank, kind, dtype, device)
    exact_weight = cases.dequantized(stored, state, outer)
    exact = cases.lora_plain(x.double(), exact_weight, bias.double(), a.double(), b.double(), scale, "none")
    dense = exact_weight.to(dtype)

    absmax = scales(state) if kind != "int8" else state[0]

    def restored() -> torch.Tensor:
        make = dequantize_int8 if kind == "int8" else dequantize_nf4
        return (torch.compile(make, dynamic=False) if device == "cuda" else make)(stored, absmax, outer, dtype)

    def product(w: torch.Tensor) -> torch.Tensor:
        return torch.addmm(torch.nn.functional.linear(x, w, bias), x @ a.T, b.T, alpha=scale)

    plain = cases.lora_plain(x, exact_weight, bias, a, b, scale, "none")
    limit = allowed(plain, exact)
    calls: dict[str, Any] = {"dequantize + cuBLAS": lambda: product(restored()), "16-bit W + cuBLAS": lambda: product(dense)}
    if device == "cuda":
        if kind == "int8":
            calls["edgefm"] = lambda: lora_linear_int8(x, stored, state[0], bias, a, b, scale)
        else:
            calls["edgefm"] = lambda: lora_linear_nf4(x, stored, state, bias, a, b, scale)
            calls["bitsandbytes + PEFT"] = peft_peer(x, dense, bias, a, b, scale)
    times, errors = {}, {}
    for peer, call in calls.items():
        if isinstance(call, str):
            times[peer] = call
            continue
        times[peer] = clock.both(call)
        errors[peer] = float((call().double() - exact).abs().max()) / limit
    scale_bytes = stored.numel() * 2 // 64 * (1 if kind == "nf4-nested" else 4) if kind != "int8" else 4 * outer
    moved = stored.numel() + scale_bytes + 2 * (rows * (inner + outer) + rank * (inner + outer))
    floor = max(moved / rate["bytes"], 2 * rows * (inner * outer + rank * (inner + outer)) / rate["operations"])
    return report(f"{name} [{rows}, {inner}] -> {outer} {kind} {dtype}", times, floor, errors)


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
def attention(clock: Clock, name: str, heads: int, tokens: int, size: int, dtype: torch.dtype, rate) -> dict[str, Any]:
    """One image. Peer: scaled_dot_product_attention with the bias as its mask."""
    q, k, v, bias = cases.attention_problem(1, heads, tokens, size, "full", dtype, clock.device)
    scale = size**-0.5
    exact = cases.attention_plain(q.double(), k.double(), v.double(), bias.double(), scale)
    limit = allowed(cases.attention_plain(q, k, v, bias, scale), exact)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    padded = torch.nn.functional.pad(bias, (0, -tokens % 8))[..., :tokens]  # rows aligned, as its fast kernels want them
    calls = {"SDPA": lambda: sdpa(q, k, v, attn_mask=bias), "SDPA, rows aligned": lambda: sdpa(q, k, v, attn_mask=padded)}
    if clock.device == "cuda":
        calls["edgefm"] = lambda: attention_bias(q, k, v, bias)
    times = {peer: clock.both(call) for peer, call in calls.items()}
    errors = {peer: float((call().double() - exact).abs().max()) / limit for peer, call in calls.items()}
    moved = 2 * (4 * heads * tokens * size + heads * tokens * tokens)
    floor = max(moved / rate["bytes"], 4 * heads * tokens * tokens * size / rate["operations"])
    return report(f"attention {name} [1, {heads}, {tokens}, {size}] {dtype}", times, floor, errors)


def measure(device: str, quick: bool) -> dict[str, Any]:
    """Everything, as one dictionary."""
    CODES[device] = cases.CODE.to(device)
    torch._dynamo.config.recompile_limit = 64  # one dequantization per shape
    clock = Clock(device, 30 if quick else 200)
    rate = rates(clock)
    tiny = device != "cuda"
    rows = []
    types = [torch.float16] if quick or tiny else [torch.float16, torch.bfloat16]
    layers = {"tiny": (64, 8)} if tiny else LAYERS
    if quick and not tiny:
        layers = {name: LAYERS[name] for name in ("ViT-B fc1", "ViT-B fc2", "ViT-L fc1", "ViT-g fc1")}
    for dtype in types:
        for name, (inner, outer) in layers.items():
            for tokens in (1, 5 if tiny else 197):
                for kind in ("nf4-nested", "int8"):
                    rows.append(lora(clock, name, tokens, inner, outer, kind, dtype, rate))
        for name, (heads, size) in {"tiny": (1, 32)}.items() if tiny else HEADS.items():
            for tokens in (5,) if tiny else (197, 1024) if quick else (197, 257, 577, 1024):
                rows.append(attention(clock, name, heads, tokens, size, dtype, rate))
    card = torch.cuda.get_device_name() if device == "cuda" else "none: dry run of the peers"
    return {
        "card": card,
        "torch": torch.__version__,
        "bytes_per_us": rate["bytes"],
        "operations_per_us": rate["operations"],
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    asked = parser.parse_args()
    if asked.device == "cuda" and (found := obstacle(torch.device("cuda"))) is not None:
        print(f"gpu_cuda: {found}", file=sys.stderr)
        return 2
    result = measure(asked.device, asked.quick)
    if asked.out is not None:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
