"""The blocks of Triton's kernels measured on this card: from each module's table one step in each direction, the fastest kept.

Not a search of everything, and never during a run: `edgefm doctor --tune` asks for it, and `measured.py` keeps what is found. A
candidate that does not compile, does not fit, or whose answer differs from the table's is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from ...errors import InputError
from ..ops.attention import attention
from ..ops.attention_kl import attention_kl
from ..ops.lora import lora_linear
from ..select import choose
from . import attention as attention_kernels
from . import attention_kl as attention_kl_kernels
from . import lora as lora_kernels
from .card import capability
from .measured import Blocks, held, keep

Step = Callable[[], list[torch.Tensor]]
FASTER = 0.97  # of the table's time: less is noise
ALIKE = 0.02  # of the largest value: what 16 bits and another order of a sum may make
LEAST, MOST = 16, 256


class Case(NamedTuple):
    """One entry of the tables: its key, what the table says, and a step whose time and answer show it."""

    key: str
    blocks: Blocks
    step: Step


def tune(
    device: torch.device, milliseconds: Callable[[Step], float] | None = None, *, small: bool = False
) -> dict[str, Blocks]:
    """Measure every case on `device` and keep the fastest blocks of each, for later runs on cards of this name.

    Args:
        milliseconds: times a step; None: the median by Triton's own benchmark. small: tiny shapes, for the interpreter.

    Returns:
        Key to blocks: the table's where no others were faster.

    Raises:
        InputError: Triton's kernels do not run on `device`, or EDGEFM_KERNELS has others run.
    """
    if milliseconds is None:
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
            raise InputError("there is nothing to tune", expected="an NVIDIA card of compute capability 8.0 or later")
        milliseconds = _median
    for each in (choose(operator, device) for operator in ("attention", "attention_kl", "lora")):
        if each.backend != "triton":
            raise InputError(f"{each.operator} runs in {each.backend} ({each.reason})", expected="Triton's kernels to tune")
    found = {case.key: fastest(case, milliseconds) for case in cases(device, small=small)}
    if device.type == "cuda":
        keep(torch.cuda.get_device_name(device), found)
    return found


def fastest(case: Case, milliseconds: Callable[[Step], float]) -> Blocks:
    """The blocks with the least time among the table's and its neighbours."""
    with held({case.key: case.blocks}):
        answer, best = case.step(), case.blocks
        least = FASTER * milliseconds(case.step)
    for blocks in neighbours(case.blocks):
        try:
            with held({case.key: blocks}):
                if not _alike(case.step(), answer):
                    continue
                taken = milliseconds(case.step)
        except Exception:  # whatever the compiler or the card says of them, these blocks are not for this card
            continue
        if taken < least:
            best, least = blocks, taken
    return best


def neighbours(blocks: Blocks) -> list[Blocks]:
    """Each side halved and doubled, 4 warps or 8, a stage less and one more."""
    *sides, warps, stages = blocks
    found: list[Blocks] = []
    for place, side in enumerate(sides):
        for other in (side // 2, side * 2):
            if LEAST <= other <= MOST:
                found.append((*sides[:place], other, *sides[place + 1 :], warps, stages))
    found.append((*sides, 12 - warps if warps in (4, 8) else 4, stages))
    return found + [(*sides, warps, other) for other in (stages - 1, stages + 1) if 1 <= other <= 4]


def cases(device: torch.device, *, small: bool = False) -> Iterator[Case]:
    """What is measured, in 16 bits: attention in heads of 64 and 128, LoRA's fused product, the divergence in heads of 64.

    Their blocks are the tables', also where others are kept from before: one step away from those would be two.
    """
    yield from _attention(device, small)
    yield from _lora(device, small)
    yield from _divergence(device, small)


def _attention(device: torch.device, small: bool) -> Iterator[Case]:
    batch, heads, tokens = (2, 2, 5) if small else (32, 12, 197)
    for width in (64, 128):
        q, k, v, g = (_random(device, batch, heads, tokens, width) for _ in range(4))
        # in 32 bits, and with the class token's row: what takes the most, so that blocks that fit here fit everywhere
        bias = _random(device, 1, heads, tokens, tokens).detach().float().requires_grad_()

        def step(q=q, k=k, v=v, g=g, bias=bias) -> list[torch.Tensor]:
            found = attention(q, k, v, bias, want_cls_row=True, want_importance=True)
            assert found.cls_row is not None
            assert found.importance is not None
            gradients = torch.autograd.grad([found.out, found.cls_row], [q, k, v, bias], [g, g[..., 0].float()])
            return [found.out, found.cls_row, found.importance, *gradients]

        for kernel in ("forward", "importance", "rows", "columns", "tiles"):
            size = attention_kernels.table(kernel, q.dtype, width, hopper=capability(device)[0] == 9)
            yield Case(attention_kernels.key(kernel, q.dtype, width), tuple(size), step)


def _lora(device: torch.device, small: bool) -> Iterator[Case]:
    rows = 5 if small else 12_608
    for activation in ("none", "gelu"):
        for inner, out in ((16, 1040), (16, 32)) if small else ((768, 3072), (256, 1024)):
            x, g, weight = _random(device, rows, inner), _random(device, rows, out), _random(device, out, inner)
            a, b = _random(device, 16, inner), _random(device, out, 16)

            def step(x=x, g=g, weight=weight, a=a, b=b, activation=activation) -> list[torch.Tensor]:
                y = lora_linear(x, weight.detach(), None, a, b, activation=activation)
                return [y, *torch.autograd.grad(y, [x, a, b], g)]

            size = lora_kernels.tile(x, out, capability(device), activation)
            yield Case(lora_kernels.key(out, activation), tuple(size)[:5], step)


def _divergence(device: torch.device, small: bool) -> Iterator[Case]:
    batch, tokens = (1, 5) if small else (32, 197)
    for form, heads, names in (("mean", 3, ("lse", "mean_rows", "mean_columns")), ("pairs", 12, ("rows", "columns"))):
        q_s, k_s = (_random(device, batch, heads, tokens, 64) for _ in range(2))
        q_t, k_t = (_random(device, batch, 12, tokens, 64) for _ in range(2))

        def step(q_s=q_s, k_s=k_s, q_t=q_t, k_t=k_t, form=form) -> list[torch.Tensor]:
            value = attention_kl(q_s, k_s, q_t, k_t, heads=form)
            return [value, *torch.autograd.grad(value, [q_s, k_s])]

        for name in names:
            size = attention_kl_kernels.tile(name, 64, q_s.element_size(), capability(device))
            yield Case(attention_kl_kernels.key(name, 64, q_s.element_size()), tuple(size), step)


def _random(device: torch.device, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).div_(shape[-1] ** 0.25).to(device, torch.float16).requires_grad_()


def _alike(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(bool((x.float() - y.float()).abs().max() <= ALIKE * y.float().abs().max()) for x, y in pairs)


def _median(step: Step) -> float:
    from triton.testing import do_bench

    return float(do_bench(step, warmup=10, rep=60, return_mode="median"))
