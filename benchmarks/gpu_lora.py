"""LoRA on a ViT's linear layers and MLPs, forward and backward, against PEFT, eager and compiled, on a bf16 and an NF4 base.

Not a training run: one layer or one MLP a step, random data. Each time stands beside its error against the fp64 formula.

    python benchmarks/gpu_lora.py [--quick] [--variants] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=lora=triton python benchmarks/gpu_lora.py --device cpu --quick    (dry run, tiny shapes)

Two times a contender: `step`, as Python launches it, and `graph`, replayed from a CUDA graph: the GPU's work alone. Medians of
runs in turn, L2 flushed before each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgefm.kernels.ops.frozen import nf4
from edgefm.kernels.ops.lora import lora_linear
from edgefm.kernels.ops.lora_mlp import lora_mlp

RANK, SCALE = 16, 2.0
SHAPES = {"ViT-B": (768, 3072), "ViT-L": (1024, 4096)}
ROWS = 12600
TARGETS = {"bf16": {"PEFT compiled": 1.3, "PEFT eager": 1.8}, "nf4": {"PEFT compiled": 1.5, "PEFT eager": 1.5}}


class Mlp(nn.Module):
    """fc1, GELU, fc2, or fc1 alone: what PEFT wraps."""

    def __init__(self, width: int, hidden: int, alone: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act, self.fc2 = (nn.Identity(), nn.Identity()) if alone else (nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Case:
    """One comparison: the model under PEFT, its tensors for EdgeFM, the data."""

    def __init__(self, name: str, base: str, alone: bool, p: float, rows: int, width: int, hidden: int, device: str) -> None:
        import peft

        torch.manual_seed(0)
        self.p, self.alone = p, alone
        self.label = f"{name} {'linear' if alone else 'mlp'} {base} dropout {p}"
        model, dtype = Mlp(width, hidden, alone), torch.bfloat16
        if base == "nf4":
            model = in_four_bits(model, device)
        names = ["fc1"] if alone else ["fc1", "fc2"]
        config = peft.LoraConfig(r=RANK, lora_alpha=int(RANK * SCALE), lora_dropout=p, target_modules=names)
        model = peft.inject_adapter_in_model(config, model).to(device)
        self.peft = model if base == "nf4" else model.to(dtype)
        self.layers, self.factors = [], []
        for wrapped in (getattr(model, each) for each in names):
            a, b = wrapped.lora_A["default"].to(dtype).weight, wrapped.lora_B["default"].to(dtype).weight
            nn.init.normal_(b, std=0.02)
            weight = wrapped.base_layer.weight
            weight = nf4(weight.data, weight.quant_state) if base == "nf4" else weight
            self.layers.append((weight, wrapped.base_layer.bias))
            self.factors += [a, b]
        self.x = torch.randn(rows, width, device=device, dtype=dtype, requires_grad=True)
        self.g = torch.randn(rows, hidden if alone else width, device=device, dtype=dtype)
        self.operations = 2 * rows * (width * hidden) * 2 * (1 if alone else 2)
        self.bytes = 2 * rows * ((3 * width + 2 * hidden) if alone else (4 * width + 4 * hidden))

    def edgefm(self, x: torch.Tensor, *factors: torch.Tensor, seed: torch.Tensor | None = None) -> torch.Tensor:
        arguments = [(*layer, *factors[2 * i : 2 * i + 2]) for i, layer in enumerate(self.layers)]
        operator = lora_linear if self.alone else lora_mlp
        return operator(x, *[each for layer in arguments for each in layer], SCALE, self.p, seed=seed)

    def step(self, forward) -> list[torch.Tensor]:
        """y and the gradients for x and the factors."""
        y = forward(self.x)
        return [y.detach(), *torch.autograd.grad(y, [self.x, *self.factors], self.g)]

    def ours(self) -> list[torch.Tensor]:
        return self.step(lambda x: self.edgefm(x, *self.factors))

    def error(self) -> float:
        """Largest error of EdgeFM's outputs and gradients, each over its largest value, against the reference in fp64."""
        from edgefm.kernels.ops.frozen import Frozen, Layer
        from edgefm.kernels.reference import lora as reference

        seed = torch.tensor([1], device=self.x.device)
        mine = self.step(lambda x: self.edgefm(x, *self.factors, seed=seed))
        with torch.no_grad():
            layers = []
            for i, (weight, bias) in enumerate(self.layers):
                a, b = (t.double()[None] for t in self.factors[2 * i : 2 * i + 2])
                base = weight if isinstance(weight, Frozen) else Frozen(weight.double())
                layers.append(Layer(base, bias.double(), a, b))
            x, g, rest = self.x.double(), self.g.double(), (None, seed, SCALE, self.p)
            run, back = (reference.linear, reference.linear_backward) if self.alone else (reference.mlp, reference.mlp_backward)
            activation = "none" if self.alone else "gelu"
            y, *kept = run(x, *layers, *rest, activation)
            true = [y, *back(g, x, *kept, *layers, *rest, activation, True)]
        return max(((m.double() - t.view_as(m)).abs().max() / t.abs().max()).item() for m, t in zip(mine, true, strict=True))


def in_four_bits(model: nn.Module, device: str) -> nn.Module:
    """The model's linear layers as bitsandbytes' NF4, doubly quantized, computing in bf16."""
    import bitsandbytes

    for name, layer in list(model.named_children()):
        if isinstance(layer, nn.Linear):
            small = bitsandbytes.nn.Linear4bit(
                layer.in_features, layer.out_features, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4"
            )
            small.load_state_dict(layer.state_dict())
            setattr(model, name, small.to(torch.bfloat16).to(device))
    model.is_loaded_in_4bit = True
    return model


class Clock:
    """Medians in microseconds of steps run in turn, on a GPU by events with L2 flushed, else by the wall."""

    def __init__(self, device: str, runs: int) -> None:
        self.cuda, self.runs = device == "cuda", runs
        self.flush = torch.empty(256 << 20, dtype=torch.uint8, device=device) if self.cuda else None

    def medians(self, steps: dict) -> dict[str, float]:
        taken = {name: [] for name in steps}
        for _ in range(self.runs):
            for name, step in steps.items():
                taken[name].append(self.once(step))
        return {name: round(statistics.median(each), 1) for name, each in taken.items()}

    def once(self, step) -> float:
        if not self.cuda:
            start = time.perf_counter()
            step()
            return (time.perf_counter() - start) * 1e6
        self.flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) * 1e3


def graph(step):
    """The step as a CUDA graph's replay; None where it cannot be captured."""
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            step()
        return captured.replay
    except Exception as error:
        print(f"  no graph: {type(error).__name__}: {str(error)[:120]}")
        torch.cuda.synchronize()
        return None


def rates(clock: Clock) -> dict[str, float]:
    """Bytes a second of a copy and operations a second of a bf16 product, measured here."""
    if not clock.cuda:
        return {}
    source = torch.randn(1 << 28, device="cuda", dtype=torch.bfloat16)
    target, square = torch.empty_like(source), torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    taken = clock.medians({"copy": lambda: target.copy_(source), "product": lambda: square @ square})
    return {"bytes": 4 * source.numel() / taken["copy"] * 1e6, "operations": 2 * 8192**3 / taken["product"] * 1e6}


def compare(case: Case, clock: Clock, measured: dict, variants: bool, compiled: bool, quick: bool) -> dict:
    """One row: microseconds of each contender, ratios, EdgeFM's error, the bound."""
    from edgefm.kernels.triton import lora

    def forced(way):
        def step():
            lora.FORCED = way
            try:
                return case.ours()
            finally:
                lora.FORCED = None

        return step

    case.peft.train()
    steps = {"EdgeFM": case.ours, "PEFT eager": lambda: case.step(case.peft)}
    if compiled:
        fast = torch.compile(case.peft)
        steps["PEFT compiled"] = lambda: case.step(fast)
        if not quick:
            whole = torch.compile(case.edgefm)
            steps["EdgeFM compiled"] = lambda: case.step(lambda x: whole(x, *case.factors))
    if variants:
        steps |= {f"EdgeFM {way.wide}/{way.thin}": forced(way) for way in lora.WAYS}
    for name, step in list(steps.items()):
        try:
            for _ in range(3):
                step()
        except Exception as error:
            print(f"  {name}: {type(error).__name__}: {str(error)[:200]}")
            del steps[name]
    row = {"case": case.label, "error": case.error(), "step": clock.medians(steps)}
    if clock.cuda:
        graphs = {name: replay for name, step in steps.items() if (replay := graph(step))}
        row["graph"] = clock.medians(graphs)
    if variants:
        row["errors"] = {}
        for way in lora.WAYS:
            lora.FORCED = way
            row["errors"][f"{way.wide}/{way.thin}"] = case.error()
        lora.FORCED = None
    if measured:
        row["bound"] = round(max(case.operations / measured["operations"], case.bytes / measured["bytes"]) * 1e6, 1)
    for kind in ("step", "graph"):
        times = row.get(kind, {})
        row[f"{kind} ratios"] = {
            n: round(t / times["EdgeFM"], 2) for n, t in times.items() if n.startswith("PEFT") and "EdgeFM" in times
        }
    print(json.dumps(row, indent=1), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="ViT-B with dropout only, fewer runs")
    parser.add_argument("--variants", action="store_true", help="each way of EdgeFM's own")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cuda = options.device == "cuda"
    shapes = {"tiny": (64, 128)} if not cuda else dict(list(SHAPES.items())[: 1 if options.quick else None])
    clock = Clock(options.device, 20 if options.quick and cuda else 50 if cuda else 1)
    measured, rows = rates(clock), []
    device = torch.cuda.get_device_name() if cuda else "cpu"
    versions = {"torch": torch.__version__, "device": device, "rows": ROWS if cuda else 40, "rank": RANK, **measured}
    for base in ("bf16", "nf4"):
        for name, (width, hidden) in shapes.items():
            for alone in (True, False):
                for p in (0.1,) if options.quick and cuda else (0.0, 0.1):
                    try:
                        case = Case(name, base, alone, p, ROWS if cuda else 40, width, hidden, options.device)
                    except ImportError as error:
                        print(f"skipped: {name} on {base}: {error}")
                        rows.append({"case": f"{name} {base}", "skipped": str(error)})
                        continue
                    torch._dynamo.reset()
                    variants = options.variants and base == "bf16"
                    rows.append(compare(case, clock, measured, variants, not options.no_compile and cuda, options.quick))
                    if options.out:  # after each row: time on a GPU may end at any moment
                        options.out.write_text(json.dumps({**versions, "targets": TARGETS, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
