"""One linear layer of a ViT on one core: EdgeFM's int8 and fp32 kernels, torch fp32, PEFT in torch fp32, the core's ceiling.

Not attention (native_attention.py), not an encoder (native_vit.py). int8 starts from float activations: their quantization is
in its time. An adapter has rank 16 and is not merged; PEFT's runs in inference mode with dropout 0. A turn is CALLS calls, so
that what others left in the caches weighs less. `share` is of the ceiling that `ceiling.py` measures before and after.

Seven times PEFT is out of reach on one core with AVX-512 VNNI: its int8 ceiling is four times that of fp32, torch reaches 85 %
of the latter, and PEFT adds a tenth to a half, so all of the int8 ceiling would be 5 to 7 times. Narrow layers (K = 192) stay
at half of the ceiling: their rows are quantized for few columns.

    python benchmarks/native_kernels.py [--runs 100] [--rows 197]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import peft
import torch
from ceiling import ceilings
from measure import alternate, ratio, save

from edgefm import _native
from edgefm.export.native_pack import pack_fp32, pack_int8, pad

SHAPES = [  # (K, N) of ViT-Ti, S and B
    (192, 576), (192, 192), (192, 768), (768, 192), (384, 1152), (384, 384), (384, 1536), (1536, 384),
    (768, 2304), (768, 768), (768, 3072), (3072, 768),
]  # fmt: skip
CALLS = 8
RANK, AT_MOST, AT_LEAST, SHARE = 16, 1.15, 7.0, 0.8
TABLES = [isa for isa in _native.kernel_tables() if isa != "scalar"]
BEST = TABLES[-1]
CEILING = {"avx512_vnni": ("int8_avx512_vnni", "fp32_avx512"), "avx2": (None, "fp32_avx2")}
Call = Callable[[], object]


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(shape).standard_normal(shape)).astype(np.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes, as weights do in a bundle."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Layer:
    """Weights `[N, K]` for the native kernels, and rows to run them on."""

    def __init__(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
        self.x, (self.n, self.k) = aligned(x), weight.shape
        packed = pack_int8(weight)
        self.int8 = [aligned(each) for each in (packed.codes, packed.scale, packed.sum)]
        self.fp32 = aligned(pack_fp32(weight))
        self.bias = None if bias is None else aligned(pad(bias))
        self.codes = aligned(np.zeros((len(x), -(-self.k // 64) * 64), np.uint8))
        self.scale, self.y = aligned(np.zeros(len(x), np.float32)), aligned(np.zeros((len(x), self.n), np.float32))
        self.at_bias = 0 if self.bias is None else self.bias.ctypes.data
        self.weights = (*(each.ctypes.data for each in self.int8), self.at_bias, self.n, self.k)

    def by_int8(self, isa: str, activation: str = "none", adapters: list[Any] | None = None) -> Call:
        code, stride, scale = self.codes.ctypes.data, self.codes.strides[0], self.scale.ctypes.data
        to = {"rows": len(self.x), "y": self.y.ctypes.data, "y_stride": self.n}
        of = {"x": self.x.ctypes.data, "x_stride": self.k, "k": self.k, "code": code, "stride": stride, "scale": scale}

        def call() -> None:
            _native.quantize_rows(isa=isa, rows=to["rows"], **of)
            after = (activation, 0, 0, 0)
            _native.linear_int8(
                isa=isa, x=(code, stride, scale), weights=self.weights, after=after, adapters=adapters or [], **to
            )

        return call

    def by_fp32(self, isa: str) -> Call:
        to = {"rows": len(self.x), "y": self.y.ctypes.data, "y_stride": self.n, "after": ("none", 0, 0, 0)}
        of = {"x": self.x.ctypes.data, "x_stride": self.k, "weight": self.fp32.ctypes.data, "bias": self.at_bias}
        return lambda: _native.linear_fp32(isa=isa, n=self.n, k=self.k, **of, **to)


def by_torch(module: torch.nn.Module, x: torch.Tensor) -> Call:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def often(call: Call) -> Call:
    def calls() -> None:
        for _ in range(CALLS):
            call()

    return calls


def measured(rows: int, k: int, n: int, runs: int) -> dict[str, Any]:
    x, weight, bias = normal(rows, k), normal(n, k, scale=k**-0.5), normal(n)
    a, b = normal(RANK, k, scale=k**-0.5), normal(n, RANK, scale=0.1)
    layer, low = Layer(x, weight, bias), (Layer(x[:0], a, None), Layer(x[:0, :RANK], b, None))
    plain = torch.nn.Sequential(torch.nn.Linear(k, n)).eval()
    with torch.no_grad():
        plain[0].weight.copy_(torch.from_numpy(weight))
        plain[0].bias.copy_(torch.from_numpy(bias))
    adapted = peft.get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(k, n)), peft.LoraConfig(r=RANK, target_modules=["0"], lora_dropout=0.0)
    ).eval()
    rows_of_torch = torch.from_numpy(x)
    contenders = {
        **{f"int8 {isa}": layer.by_int8(isa) for isa in TABLES},
        **{f"fp32 {isa}": layer.by_fp32(isa) for isa in TABLES},
        "int8, GELU": layer.by_int8(BEST, "gelu"),
        "int8, adapter": layer.by_int8(BEST, adapters=[(low[0].weights, low[1].weights)]),
        "torch fp32": by_torch(plain, rows_of_torch),
        "torch fp32, PEFT adapter": by_torch(adapted, rows_of_torch),
    }
    times = alternate({name: often(call) for name, call in contenders.items()}, runs, warmup=2)
    layer.by_int8(BEST)()
    exact = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    best = times[f"int8 {BEST}"]
    return {
        "milliseconds_of_8_calls": {name: time._asdict() for name, time in times.items()},
        "adapter_takes": ratio(times["int8, adapter"], best),
        "peft_takes": ratio(times["torch fp32, PEFT adapter"], times["int8, adapter"]),
        "fp32_takes": {isa: ratio(times[f"fp32 {isa}"], times[f"int8 {isa}"]) for isa in TABLES},
        "torch_takes": ratio(times["torch fp32"], best),
        "nmse": float(f"{np.square(layer.y - exact).sum() / np.square(exact).sum():.2g}"),
    }


def shares(rows: int, shape: tuple[int, int], found: dict[str, Any], ceiling: dict[str, float]) -> dict[str, float]:
    """Operations per second by p50, as a share of the ceiling, where there is one."""
    share = {}
    for isa, names in CEILING.items():
        for kind, name in zip(("int8", "fp32"), names, strict=True):
            if f"{kind} {isa}" in found["milliseconds_of_8_calls"] and name in ceiling:
                seconds = found["milliseconds_of_8_calls"][f"{kind} {isa}"]["p50"] / 1e3 / CALLS
                share[f"{kind} {isa}"] = round(2e-9 * rows * shape[0] * shape[1] / seconds / ceiling[name], 3)
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=197)
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = ceilings()  # the larger counts: the machine may have been busy
    found = {shape: measured(given.rows, *shape, given.runs) for shape in SHAPES}
    ceiling = {name: max(value, before[name]) for name, value in ceilings().items()}
    layers = {}
    for shape, of in found.items():
        layers[f"{shape[0]} to {shape[1]}"] = {**of, "share": shares(given.rows, shape, of, ceiling)}
    total = {
        name: sum(of["milliseconds_of_8_calls"][name]["p50"] for of in layers.values())
        for name in (f"int8 {BEST}", "int8, adapter", "torch fp32, PEFT adapter")
    }
    adapter = round(total["int8, adapter"] / total[f"int8 {BEST}"], 3)
    peft_takes = round(total["torch fp32, PEFT adapter"] / total["int8, adapter"], 2)
    holds = {
        f"all shapes: with an adapter at most {AT_MOST} times without": adapter <= AT_MOST,
        f"all shapes: PEFT at least {AT_LEAST} times ours": peft_takes >= AT_LEAST,
        f"each shape: int8 at least {SHARE} of the ceiling": all(
            of["share"].get("int8 avx512_vnni", 1) >= SHARE for of in layers.values()
        ),
        "each shape: int8 of avx2 no slower than its fp32": all(of["fp32_takes"].get("avx2", 1) >= 1 for of in layers.values()),
    }
    save(
        "native_kernels",
        {
            "task": __doc__.splitlines()[0],
            "rows": given.rows,
            "ceiling_gops": ceiling,
            "adapter_takes": adapter,
            "peft_takes": peft_takes,
            "layers": layers,
            "holds": holds,
        },
    )


if __name__ == "__main__":
    main()
