"""The queries, keys and values of a vision transformer's attention layers, noted while its forward pass computes them.

Not a change of the model and not a kernel: its attention runs as before, fused, and no map is made.

Noted is what a layer hands to torch's `scaled_dot_product_attention`, as timm's and transformers' encoders do: queries and keys
after their norms and rotations, from one projection or three, in blocks of any kind. Left aside are calls with a mask or a bias
(Swin, BEiT), with other keys than queries (pooling), in windows, and off the grid of patches. Not seen: attention written as
matrix products (`TIMM_FUSED_ATTN=0`, transformers' "eager"), `nn.MultiheadAttention`, and frozen graphs.

The tokens that stay: a class token first, where there is one, then the patches, row by row. Registers are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isqrt, sqrt
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .encoder import ImageTower, TimmEncoder
from .loaded import Attended, Outputs
from .probe import base_of
from .taps import TappedEncoder, inner_of

Shape = tuple[int, int, int]  # heads H, tokens T, width d of a head


class AttentionEncoder(nn.Module):
    """An encoder whose answer says what its attention layers compared, too.

    Args:
        encoder: answers `Outputs`.
        names: what is noted, "q11" being the queries of layer 11, counted from 0 in the order of the computation; None: the
            queries, keys and values of every layer.
    """

    def __init__(self, encoder: nn.Module, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.names = None if names is None else frozenset(names)
        self.front, self.has_class = _front(encoder)

    def forward(self, x: torch.Tensor) -> Attended:
        """Float32 `[N, C, S, S]` to what the encoder answers, and each of `names` as `[N, H, T, d]`."""
        notes = _Notes(len(x), self.names, self.front, self.has_class)
        with notes:
            found: Outputs = self.encoder(x)
        return Attended(found, notes.found)


def attention_shapes(found: Attended) -> tuple[Shape, ...]:
    """The shape of each layer in an answer that has all of them.

    None where they do not all lie on one grid of patches, the one of `tokens` where the answer has that: no plain ViT.
    """
    shapes = [found.attention[f"q{layer}"].shape for layer in range(len(found.attention) // 3)]
    sides = {isqrt(tokens) for _, _, tokens, _ in shapes}
    if found.tokens is not None:
        sides.add(found.tokens.shape[3])
    return tuple((heads, tokens, width) for _, heads, tokens, width in shapes) if len(sides) == 1 else ()


class _Notes(TorchFunctionMode):
    """Sees every call of a function of torch in this thread while it is entered.

    Args:
        images: in the batch. names: see `AttentionEncoder`. front, has_class: see `_front`.

    Attributes:
        found: what was noted, by name. layers: how many layers there were so far.
    """

    def __init__(self, images: int, names: Collection[str] | None, front: int | None, has_class: bool) -> None:
        super().__init__()
        self.images, self.names, self.front, self.has_class = images, names, front, has_class
        self.found: dict[str, torch.Tensor] = {}
        self.layers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self._note(*args, **kwargs)
        return func(*args, **kwargs)

    def _note(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """One call, its arguments called as torch calls them."""
        if attn_mask is not None or is_causal or query.ndim != 4 or not query.shape == key.shape == value.shape:
            return
        images, _, tokens, width = query.shape
        front = tokens - isqrt(tokens) ** 2 if self.front is None else self.front
        side = isqrt(max(0, tokens - front))
        if images != self.images or side < 2 or side * side != tokens - front:
            return
        usual = 1.0 if scale is None else scale * sqrt(width)
        if abs(usual - 1) > 1e-6:  # what is compared is scaled by 1 / sqrt(d)
            key = key * usual
        has_class = self.has_class if self.front is not None else front > 0
        for part, rows in zip("qkv", (query, key, value)):
            name = f"{part}{self.layers}"
            if self.names is None or name in self.names:
                self.found[name] = _kept(rows, front, has_class)
        self.layers += 1


def _kept(rows: torch.Tensor, front: int, has_class: bool) -> torch.Tensor:
    if front == has_class:
        return rows
    patches = rows[:, :, front:]
    return torch.cat([rows[:, :, :1], patches], dim=2) if has_class else patches


def _front(encoder: nn.Module) -> tuple[int | None, bool]:
    """How many class and register tokens stand before the patches, None if that is not known, and whether the first is a class
    token. Where it is not known, all that is more than a square stands before them, the class token first."""
    base = base_of(encoder)
    if isinstance(base, TappedEncoder):
        base = base_of(base.encoder)
    stated = int(getattr(base, "prefix", 0))  # of transformers' models that pool by their class token
    if stated:
        return stated, True
    inner: Any = inner_of(base)
    if not isinstance(base, (TimmEncoder, ImageTower)) and not hasattr(inner, "num_prefix_tokens"):
        return None, True
    return int(getattr(inner, "num_prefix_tokens", 0)), getattr(inner, "cls_token", None) is not None
