"""A frozen base weight in the formats that the LoRA operators read: floating point, int8 and NF4.

Not a quantizer: int8 comes from whoever made it, NF4 from bitsandbytes, whose storage is taken as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ...errors import InputError


class Frozen(NamedTuple):
    """The weight W of a linear layer, `[out, in]`, without a gradient; plain tensors and integers only.

    weight: fp32, fp16, bf16 (fp64 in the reference) `[out, in]`; int8 `[out, in]`; or NF4 as bytes, any shape, out·in / 2 of
        them: two values a byte, the first in the high half.
    state: of a floating weight nothing; of int8 one float `[out]`, W = weight · state[:, None]; of NF4
        (absmax float `[blocks]`, code fp32 `[16]`), W_i = code[q_i] · absmax[i // block], or doubly quantized
        (absmax uint8 `[blocks]`, code fp32 `[16]`, nested_absmax fp32, nested_code fp32 `[256]`, offset fp32 scalar) with
        absmax_j = nested_code[absmax_j] · nested_absmax[j // nested_block] + offset.
        Dettmers et al. 2023 (QLoRA), section 3.
    """

    weight: torch.Tensor
    state: tuple[torch.Tensor, ...] = ()
    block: int = 64
    nested_block: int = 256

    @property
    def kind(self) -> str:
        """`float`, `int8` or `nf4`."""
        return {0: "float", 1: "int8"}.get(len(self.state), "nf4")


class Layer(NamedTuple):
    """One adapted layer as the implementations take it: act(x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ).

    a: A, `[num, r, in]`; b: B, `[num, out, r]`; num adapters, of which each row uses one.
    """

    base: Frozen
    bias: torch.Tensor | None
    a: torch.Tensor
    b: torch.Tensor

    def flat(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """A as `[num · r, in]` and B as `[out, num · r]`: the adapters side by side are one of rank num · r."""
        a = self.a.reshape(-1, self.a.shape[2])
        b = self.b[0] if len(self.b) == 1 else self.b.transpose(0, 1).reshape(self.b.shape[1], -1)
        return a.to(dtype), b.to(dtype)

    def unflat(self, da: torch.Tensor, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of `flat`'s two, da `[num · r, in]` and db `[num · r, out]`, in the shapes and dtypes of a and b."""
        num, r, _ = self.a.shape
        return da.view_as(self.a).to(self.a.dtype), db.view(num, r, -1).transpose(1, 2).to(self.b.dtype).contiguous()


def int8(weight: torch.Tensor, scale: torch.Tensor) -> Frozen:
    """An int8 weight `[out, in]` with one positive scale per output channel, float `[out]`.

    Raises:
        InputError: another dtype or shape.
    """
    if weight.dtype != torch.int8 or scale.shape != weight.shape[:1]:
        raise InputError(
            f"an int8 weight of {weight.dtype} {list(weight.shape)} with scales {list(scale.shape)}",
            expected="int8 [out, in] and [out]",
        )
    return Frozen(weight, (scale,))


def nf4(weight: torch.Tensor, quant_state: Any) -> Frozen:
    """A weight that bitsandbytes quantized: `quantize_4bit(..., quant_type="nf4")`, or `Params4bit` and its `quant_state`.

    Raises:
        InputError: the state is not of NF4.
    """
    if quant_state.quant_type != "nf4":
        raise InputError(f"a 4-bit weight of type {quant_state.quant_type}", expected="nf4")
    weight, code = weight.detach().view(torch.uint8), quant_state.code.float()
    if not quant_state.nested:
        return Frozen(weight, (quant_state.absmax, code), quant_state.blocksize)
    nested = quant_state.state2
    offset = torch.as_tensor(quant_state.offset, dtype=torch.float32, device=weight.device)
    state = (quant_state.absmax, code, nested.absmax.float(), nested.code.float(), offset)
    return Frozen(weight, state, quant_state.blocksize, nested.blocksize)
