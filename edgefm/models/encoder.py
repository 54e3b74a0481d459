"""A timm model under EdgeFM's forward convention: one pass, logits and the embedding before them.

Not a new architecture: every weight stays in the timm model inside, under timm's own keys.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from .loaded import Outputs

Pooling = Literal["own", "class+patches"]


class TimmEncoder(nn.Module):
    """A timm model that answers `Outputs`.

    Args:
        model: the timm model.
        architecture: its name in timm, without a tag.
        arguments: what `timm.create_model` needs beside the name to build it again, as JSON can hold it.
        pooling: "own" is the model's own head; "class+patches" concatenates the class token with the mean of the patch
            tokens past the prefix tokens, embedding `[N, 2 D]`.
    """

    def __init__(self, model: nn.Module, *, architecture: str, arguments: dict[str, Any], pooling: Pooling = "own") -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.arguments = arguments
        self.pooling = pooling
        self.classes = int(model.num_classes)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`."""
        model: Any = self.model
        features = model.forward_features(x)
        if self.pooling == "class+patches":
            patches = features[:, model.num_prefix_tokens :].mean(dim=1)
            return Outputs(None, torch.cat([features[:, 0], patches], dim=-1))
        embedding = model.forward_head(features, pre_logits=True)
        if not self.classes:
            return Outputs(None, embedding)
        return Outputs(model.get_classifier()(embedding), embedding)
