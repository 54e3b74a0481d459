"""LoRA on a ViT's linear layers and MLPs, forward and backward, against PEFT, eager and compiled, on a bf16 and an NF4 base.

Not a training run: one layer or one MLP a step, random data. Each time stands beside its error against the fp64 formula.

    python benchmarks/gpu_lora.py [--quick] [--variants] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=lora=triton python benchmarks/gpu_lora.py --device cpu --quick    (dry run, tiny shapes)

Two times a contender, in microseconds: `step`, as Python launches it, and `graph`, replayed from a CUDA graph: the GPU alone.
"""

from __future__ import annotations

import json

import torch
from gpu_measure import Clock, Run, Timing, options, why
from torch import nn

from edgefm.kernels.ops.frozen import nf4
from edgefm.kernels.ops.lora import lora_linear
from edgefm.kernels.ops.lora_mlp import lora_mlp

RANK, SCALE = 16, 2.0
SHAPES = {"ViT-B": (768, 3072), "ViT-L": (1024, 4096)}
TINY = {"tiny": (64, 128)}
ROWS, FEW = 12600, 40
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

    def __init__(self, base: str, alone: bool, p: float, rows: int, width: int, hidden: int, device: str) -> None:
        import peft

        torch.manual_seed(0)
        self.p, self.alone = p, alone
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


def contenders(case: Case, variants: bool, compiled: bool, quick: bool) -> dict:
    """Name -> one step; one that does not run says why and is left out."""
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
            step()
        except Exception as error:
            print(f"  {name}: {why(error)}")
            del steps[name]
    return steps


def compare(run: Run, base: str, label: str, case: Case, steps: dict, variants: bool) -> dict:
    """One row: microseconds of each contender, ratios, EdgeFM's error, the roofline."""
    from edgefm.kernels.triton import lora

    called = run.clock.times(steps)
    alone, refused = run.clock.alone(steps)
    row = {"case": label, "error": case.error(), "step": microseconds(called)}
    if run.card:
        row |= {"graph": microseconds(alone), "no graph": refused}
    if variants:
        row["errors"] = {}
        for way in lora.WAYS:
            lora.FORCED = way
            row["errors"][f"{way.wide}/{way.thin}"] = case.error()
        lora.FORCED = None
    row["roofline"] = run.roofline(case.bytes, case.operations, (alone or called).get("EdgeFM"))
    for kind in ("step", "graph"):
        times = row.get(kind, {})
        row[f"{kind} ratios"] = {
            n: round(t / times["EdgeFM"], 2) for n, t in times.items() if n.startswith("PEFT") and "EdgeFM" in times
        }
    print(json.dumps(row, indent=1), flush=True)
    for peer, at_least in TARGETS[base].items():
        run.goal(label, peer, at_least, called, alone)
    return row


def microseconds(times: dict[str, Timing]) -> dict[str, float]:
    return {name: round(1e3 * each.p50, 1) for name, each in times.items()}


def main() -> None:
    parser = options(__doc__, "ViT-B with dropout only, fewer runs")
    parser.add_argument("--variants", action="store_true", help="each way of EdgeFM's own, on a bf16 base")
    parser.add_argument("--no-compile", action="store_true")
    asked = parser.parse_args()
    run = Run(asked, Clock(asked.device, 20 if asked.quick else 50))
    shapes = dict(list(SHAPES.items())[: 1 if asked.quick else None]) if run.card else TINY
    count, cases = ROWS if run.card else FEW, []
    facts = {"rows": count, "rank": RANK, "targets": TARGETS}
    rows = [
        (base, name, alone, p)
        for base in TARGETS
        for name in shapes
        for alone in (True, False)
        for p in ((0.1,) if asked.quick else (0.0, 0.1))
    ]
    for base, name, alone, p in rows:
        label = f"{name} {'linear' if alone else 'mlp'} {base} dropout {p}"
        if not run.on(label):
            continue
        try:
            case = Case(base, alone, p, count, *shapes[name], asked.device)
        except ImportError as error:
            print(f"skipped: {label}: {error}")
            cases.append({"case": label, "skipped": str(error)})
            run.save(**facts, cases=cases)
            continue
        torch._dynamo.reset()
        variants = asked.variants and base == "bf16"
        steps = contenders(case, variants, run.card and not asked.no_compile, asked.quick)
        cases.append(compare(run, base, label, case, steps, variants))
        run.save(**facts, cases=cases)
    run.save()


if __name__ == "__main__":
    main()
