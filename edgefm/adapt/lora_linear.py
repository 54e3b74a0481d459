"""A linear layer that is frozen, with one or several LoRA adapters beside it: what stands in a model in its place.

Not the arithmetic (`kernels/ops/lora.py`), not the choice of layers (`targets.py`).

The frozen weight and bias are no part of `state_dict`: a checkpoint holds what learns, and a run that is resumed makes the base
again from MODEL, which its identity names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..kernels.ops.autocast import autocast_dtype
from ..kernels.ops.frozen import Frozen
from ..kernels.ops.lora import lora_linear
from ..kernels.reference.frozen import dequantize


class Chosen:
    """Which adapter each image of the coming batch uses; `train.predict.answer` says which images these are.

    Args:
        of_image: int64 `[N]`, the adapter's number of every image of the data set; -1 for images that are not shown.
    """

    def __init__(self, of_image: np.ndarray) -> None:
        self.of_image = of_image
        self.index = torch.empty(0, dtype=torch.int64)

    def __call__(self, indexes: np.ndarray, device: torch.device) -> None:
        self.index = torch.from_numpy(self.of_image[indexes]).to(device)

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """int64 `[len(x)]`: x holds an image's rows together, be they tokens of one image or windows of it (Swin)."""
        many, left = divmod(len(x), max(1, len(self.index)))
        if left or not many:
            raise InputError(f"a batch of {len(self.index)} images comes to an adapter as {len(x)} rows")
        return self.index.repeat_interleave(many, output_size=len(x))


class LoraLinear(nn.Module):
    """y = x Wᵀ + bias + (alpha / rank) · (dropout(x) Aᵀ) Bᵀ, in x's dtype (autocast's under autocast). Hu et al. 2021.

    Args:
        base, bias: of the layer, `[out, in]` and float `[out]` or None.
        num: of adapters side by side. chosen: of several, which an image uses.
        dropout: probability in [0, 1), while training.

    Attributes:
        a, b: what learns, float32 `[num, rank, in]` and `[num, out, rank]`. B starts as 0, so the layer starts as it was.
    """

    def __init__(
        self,
        base: Frozen,
        bias: torch.Tensor | None,
        features: tuple[int, int],
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        num: int = 1,
        chosen: Chosen | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = features
        self.scale, self.dropout, self.chosen = alpha / rank, dropout, chosen
        self.block, self.nested_block = base.block, base.nested_block
        self.register_buffer("frozen", base.weight, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)
        self.register_buffer("rounded", None, persistent=False)
        self.states = [f"state{number}" for number in range(len(base.state))]
        for name, value in zip(self.states, base.state):
            self.register_buffer(name, value, persistent=False)
        device = base.weight.device
        self.a = nn.Parameter(torch.empty(num, rank, self.in_features, device=device))
        self.b = nn.Parameter(torch.zeros(num, self.out_features, rank, device=device))

    def start(self, generator: torch.Generator) -> None:
        """A uniform in ±1/√in, as PEFT and a linear layer start; B 0. The draws come from the CPU, whatever the device."""
        bound = 1 / math.sqrt(self.in_features)
        with torch.no_grad():
            self.a.copy_(torch.empty(self.a.shape).uniform_(-bound, bound, generator=generator))
            self.b.zero_()

    @property
    def base(self) -> Frozen:
        """The frozen weight as the operators take it."""
        return Frozen(self.frozen, tuple(getattr(self, name) for name in self.states), self.block, self.nested_block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float `[..., in]` to `[..., out]`."""
        index = None if self.chosen is None else self.chosen.rows(x)
        p = self.dropout if self.training else 0.0
        return lora_linear(x, self._asked(x), self.bias, self.a, self.b, self.scale, p, index=index)

    def _asked(self, x: torch.Tensor) -> Frozen:
        """The base, a float one in autocast's dtype: rounded once and kept, not in every forward and every backward."""
        dtype = autocast_dtype(x.device)
        if self.states or dtype is None or x.dtype == torch.float64:
            return self.base
        if self.rounded is None or self.rounded.dtype != dtype:
            self.rounded = self.frozen.to(dtype)
        return Frozen(self.rounded)

    def merged(self, number: int = 0) -> torch.Tensor:
        """W + (alpha / rank) B A of one adapter, float32 `[out, in]`, with gradients for A and B; W dequantized."""
        weight = dequantize(self.base, self.out_features, self.in_features, torch.float32)
        return torch.addmm(weight, self.b[number], self.a[number], alpha=self.scale)

    @property
    def weight(self) -> torch.Tensor:
        """`merged`, for blocks that multiply by a layer's weight themselves (BEiT's, Swin v2's, EVA's qkv); no dropout there.

        Raises:
            InputError: there are several adapters, of which each image uses its own.
        """
        if len(self.a) > 1:
            raise InputError(
                "a block that multiplies by its qkv's weight itself (BEiT, Swin v2, EVA, RoPE) has several adapters there",
                expected="one",
                do="leave qkv out of adapt.lora.targets, or adapt.lora.by",
            )
        return self.merged()

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, rank={self.a.shape[1]}, num={len(self.a)}, base={self.base.kind}"


def start_all(layers: Sequence[LoraLinear], seed: int) -> None:
    """Start every layer, one after the other, from one seed."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        layer.start(generator)
