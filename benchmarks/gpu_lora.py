"""LoRA on a ViT's linear layers and MLPs, forward and backward, against PEFT, eager and compiled, on a bf16 and an NF4 base.

Not a training run: one layer or one MLP a step, random data. Each time stands beside its error against the fp64 formula.

    python benchmarks/gpu_lora.py [--quick] [--variants] [--out FILE.json]
    TRITON_INTERPRET=1 EDGEFM_KERNELS=lora=triton python benchmarks/gpu_lora.py --device cpu --quick    (dry run, tiny shapes)

Two times a contender, in microseconds: `step`, as Python launches it, and `graph`, replayed from a CUDA graph: the GPU alone.
Of an MLP "EdgeFM" is `lora_mlp`, and "EdgeFM, two layers" what `adapt` does: `lora_linear`, torch's GELU, `lora_linear`.
"EdgeFM compiled" is left out by --quick: compiling it takes longer than the rest of its row. `kernels`: what a step of EdgeFM's
and of the faster PEFT launches, asked after all times. A base in bf16 needs no peer: without PEFT its rows are EdgeFM's alone.

What fell short on an H200 (results/gpu_lora.json, of the kernels before these): a bf16 layer is as fast as PEFT compiled on
the card (457 and 447 us, target 1.3 times), and `lora_mlp` takes twice its time. Ten ways of the products lie within 13 %
on a layer and 8 % on an MLP, so the time is not in them. Done since, counted and not timed on a card: the mask is loaded 32
elements at once and ahead of the loop (13 to 7 instructions an element), GELU takes half of its (46 to 21 in the pass that
computes hidden values again), and Python an eighth less of its time for a layer, a third less for an MLP. `adapt` runs
`lora_linear`, never `lora_mlp`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gpu_contenders import Call, why
from gpu_measure import Clock, Run, Timing, options
from torch import Tensor, nn
from torch.nn import functional

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

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Case:
    """One comparison: the model under PEFT (None: it is not installed), its tensors for EdgeFM, the data."""

    def __init__(self, base: str, alone: bool, p: float, rows: int, width: int, hidden: int, device: str) -> None:
        torch.manual_seed(0)
        self.p, self.alone = p, alone
        model, dtype = Mlp(width, hidden, alone), torch.bfloat16
        if base == "nf4":
            model = in_four_bits(model, device)
        names = ["fc1"] if alone else ["fc1", "fc2"]
        self.peft, self.missing = adapted(model, names, p)
        model = (model.requires_grad_(False) if self.peft is None else self.peft).to(device)
        if base != "nf4":
            model.to(dtype)
        self.layers: list[tuple[Any, Tensor]] = []
        self.factors: list[Tensor] = []
        for layer in (getattr(model, each) for each in names):
            if self.peft is None:
                a, b = (
                    torch.empty(size, device=device, dtype=dtype, requires_grad=True)
                    for size in ((RANK, layer.in_features), (layer.out_features, RANK))
                )
                nn.init.kaiming_uniform_(a, a=5**0.5)
            else:
                a, b = layer.lora_A["default"].to(dtype).weight, layer.lora_B["default"].to(dtype).weight
                layer = layer.base_layer
            nn.init.normal_(b, std=0.02)
            weight = nf4(layer.weight.data, layer.weight.quant_state) if base == "nf4" else layer.weight
            self.layers.append((weight, layer.bias))
            self.factors += [a, b]
        self.x = torch.randn(rows, width, device=device, dtype=dtype, requires_grad=True)
        self.g = torch.randn(rows, hidden if alone else width, device=device, dtype=dtype)
        self.operations = 2 * rows * (width * hidden) * 2 * (1 if alone else 2)
        self.bytes = 2 * rows * ((3 * width + 2 * hidden) if alone else (4 * width + 4 * hidden))
        self.exact: dict[int, list[Tensor]] = {}

    def edgefm(self, x: Tensor, *factors: Tensor, seed: Tensor | None = None) -> Tensor:
        arguments = [(*layer, *factors[2 * i : 2 * i + 2]) for i, layer in enumerate(self.layers)]
        operator = lora_linear if self.alone else lora_mlp
        return operator(x, *[each for layer in arguments for each in layer], SCALE, self.p, seed=seed)

    def two_layers(self, x: Tensor, *factors: Tensor, seed: Tensor | None = None) -> Tensor:
        """An MLP as `adapt` runs it."""
        fc1, fc2 = self.layers
        h = functional.gelu(lora_linear(x, *fc1, *factors[:2], SCALE, self.p, seed=seed))
        return lora_linear(h, *fc2, *factors[2:], SCALE, self.p, seed=seed)

    def step(self, forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """y and the gradients for x and the factors."""
        y = forward(self.x)
        return [y.detach(), *torch.autograd.grad(y, [self.x, *self.factors], self.g)]

    def ours(self, way: Callable[..., Tensor] | None = None) -> list[Tensor]:
        return self.step(lambda x: (way or self.edgefm)(x, *self.factors))

    def error(self, way: Callable[..., Tensor] | None = None) -> float:
        """Largest error of EdgeFM's outputs and gradients, each over its largest value, against the reference in fp64."""
        way, seed = way or self.edgefm, torch.tensor([1], device=self.x.device)
        stream = int(way != self.two_layers)  # of the second mask: two layers of one seed draw the same numbers
        if stream not in self.exact:
            self.exact[stream] = self._exact(seed, stream)
        mine = self.step(lambda x: way(x, *self.factors, seed=seed))
        pairs = zip(mine, self.exact[stream], strict=True)
        return max(((m.double() - t.view_as(m)).abs().max() / t.abs().max()).item() for m, t in pairs)

    @torch.no_grad()
    def _exact(self, seed: Tensor, stream: int) -> list[Tensor]:
        """`step` in fp64, by the formulas of the reference, layer by layer."""
        from edgefm.kernels.ops.frozen import Frozen, Layer
        from edgefm.kernels.reference import lora as reference

        layers, x, g, rest = [], self.x.double(), self.g.double(), (None, seed, SCALE, self.p, "none")
        for i, (weight, bias) in enumerate(self.layers):
            a, b = (t.double()[None] for t in self.factors[2 * i : 2 * i + 2])
            layers.append(Layer(weight if isinstance(weight, Frozen) else Frozen(weight.double()), bias.double(), a, b))
        z, nothing, u = reference.linear(x, layers[0], *rest)
        if self.alone:
            return [z, *reference.linear_backward(g, x, nothing, u, layers[0], *rest, True)]
        h = functional.gelu(z)
        y, _, u2 = reference.linear(h, layers[1], *rest, stream)
        dh, *second = reference.linear_backward(g, h, nothing, u2, layers[1], *rest, True, stream)
        dz = reference.activate_backward(dh, z, "gelu")
        return [y, *reference.linear_backward(dz, x, nothing, u, layers[0], *rest, True), *second]


def adapted(model: nn.Module, names: list[str], p: float) -> tuple[nn.Module | None, str]:
    """The model under PEFT; or None, and why."""
    try:
        import peft
    except ImportError as error:
        return None, why(error)
    config = peft.LoraConfig(r=RANK, lora_alpha=int(RANK * SCALE), lora_dropout=p, target_modules=names)
    return peft.inject_adapter_in_model(config, model), ""


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


def contenders(case: Case, variants: bool, compiled: bool, quick: bool) -> dict[str, Call]:
    """Name -> one step."""
    from edgefm.kernels.triton import lora

    steps: dict[str, Call] = {"EdgeFM": case.ours}
    if not case.alone:
        steps["EdgeFM, two layers"] = lambda: case.ours(case.two_layers)
    if compiled and not quick:
        whole = torch.compile(case.edgefm)
        steps["EdgeFM compiled"] = lambda: case.ours(whole)
    if case.peft is not None:
        model = case.peft.train()
        steps["PEFT eager"] = lambda: case.step(model)
        if compiled:
            fast = torch.compile(model)
            steps["PEFT compiled"] = lambda: case.step(fast)
    if variants:
        steps |= {f"EdgeFM {way.wide}/{way.thin}": forced(way, case.ours) for way in lora.WAYS}
    return steps


def forced(way: Any, call: Call) -> Call:
    """`call`, the products running in this way."""
    from edgefm.kernels.triton import lora

    def run() -> Any:
        lora.FORCED = way
        try:
            return call()
        finally:
            lora.FORCED = None

    return run


def compare(run: Run, base: str, label: str, case: Case, steps: dict[str, Call]) -> dict[str, Any]:
    """One row: microseconds of each contender that runs, why another does not, ratios, EdgeFM's errors, the roofline."""
    able, _, failed = run.tried(label, steps)
    if case.peft is None:
        failed["PEFT"] = case.missing
    called = run.clock.times(able)
    alone, refused = run.clock.alone(able)
    _, errors, unknown = run.tried(f"error of {label}", checks(case, able), float)
    failed |= {f"error of {name}": reason for name, reason in unknown.items()}
    row: dict[str, Any] = {"case": label, "error": errors.pop("EdgeFM", None), "step": microseconds(called)}
    if run.card:
        row |= {"graph": microseconds(alone), "no graph": refused}
    row |= {"errors": errors, "failed": failed}
    row["roofline"] = run.roofline(case.bytes, case.operations, (alone or called).get("EdgeFM"))
    for kind in ("step", "graph"):
        times = row.get(kind, {})
        row[f"{kind} ratios"] = {
            n: round(t / times["EdgeFM"], 2) for n, t in times.items() if n.startswith("PEFT") and "EdgeFM" in times
        }
    print(json.dumps(row, indent=1), flush=True)
    for peer, at_least in TARGETS[base].items():
        run.goal(label, peer, at_least, called, alone)
    times = row.get("graph") or row["step"]
    peers = sorted((name for name in times if name.startswith("PEFT")), key=times.__getitem__)[:1]
    run.profile(label, row, {name: able[name] for name in ("EdgeFM", "EdgeFM, two layers", *peers) if name in able})
    return row


def checks(case: Case, able: dict[str, Call]) -> dict[str, Callable[[], float]]:
    """Name -> the error, of each of EdgeFM's own ways that runs."""
    from edgefm.kernels.triton import lora

    found: dict[str, Callable[[], float]] = {"EdgeFM": case.error, "EdgeFM, two layers": partial(case.error, case.two_layers)}
    found |= {f"EdgeFM {way.wide}/{way.thin}": forced(way, case.error) for way in lora.WAYS}
    return {name: error for name, error in found.items() if name in able}


def microseconds(times: dict[str, Timing]) -> dict[str, float]:
    return {name: round(1e3 * each.p50, 1) for name, each in times.items()}


def row(run: Run, asked: Any, label: str, base: str, name: str, alone: bool, p: float) -> dict[str, Any]:
    """A row; `skipped` if what makes its base is not installed."""
    try:
        case = Case(base, alone, p, ROWS if run.card else FEW, *(SHAPES | TINY)[name], asked.device)
    except ImportError as error:
        print(f"skipped: {label}: {error}")
        return {"case": label, "skipped": str(error)}
    steps = contenders(case, asked.variants and base == "bf16", run.card and not asked.no_compile, asked.quick)
    return compare(run, base, label, case, steps)


def main() -> int:
    parser = options(__doc__, "ViT-B with dropout only, fewer runs, EdgeFM not compiled")
    parser.add_argument("--variants", action="store_true", help="each way of EdgeFM's own, on a bf16 base")
    parser.add_argument("--no-compile", action="store_true")
    asked = parser.parse_args()
    run = Run(asked, Clock(asked.device, 20 if asked.quick else 50))
    shapes = list(SHAPES)[: 1 if asked.quick else None] if run.card else list(TINY)
    facts = {"rows": ROWS if run.card else FEW, "rank": RANK, "targets": TARGETS}
    cases: list[dict[str, Any]] = []
    for p in (0.1,) if asked.quick else (0.1, 0.0):
        for name in shapes:
            for base in TARGETS:
                for alone in (False, True):
                    label = f"{name} {'linear' if alone else 'mlp'} {base} dropout {p}"
                    found = run.row(label, partial(row, run, asked, label, base, name, alone, p))
                    if found is not None:
                        cases.append(found)
                        run.save(**facts, cases=cases)
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
