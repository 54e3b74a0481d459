"""Models of other libraries under EdgeFM's forward convention: one pass, logits and the embedding before them.

Not new architectures: every weight stays in the model inside, under its own library's keys.

An encoder with an attribute `tokens` gives its grid of features as well while that is True (`Outputs.tokens`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from .loaded import Outputs
from .pooling import grid

Pooling = Literal["own", "class+patches", "projected"]
TokenPooling = Literal["class", "class+patches", "pooler"]


class TimmEncoder(nn.Module):
    """A timm model that answers `Outputs`.

    Args:
        model: the timm model.
        architecture: its name in timm, without a tag.
        arguments: what `timm.create_model` needs beside the name to build it again, as JSON can hold it.
        pooling: "own" is the model's own head; "class+patches" concatenates the class token with the mean of the patch
            tokens past class token and registers, embedding `[N, 2 D]`; "projected" takes what its classifier answers as the
            embedding: the projection into a teacher's space, learned without labels.
    """

    tokens: bool = False

    def __init__(self, model: nn.Module, *, architecture: str, arguments: dict[str, Any], pooling: Pooling = "own") -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.arguments = arguments
        self.pooling = pooling

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`."""
        model: Any = self.model
        features = model.forward_features(x)
        tokens = timm_grid(model, features) if self.tokens else None
        if self.pooling == "class+patches":
            patches = features[:, model.num_prefix_tokens :].mean(dim=1)
            return Outputs(None, torch.cat([features[:, 0], patches], dim=-1), tokens)
        embedding = model.forward_head(features, pre_logits=True)
        if not model.num_classes:
            return Outputs(None, embedding, tokens)
        classifier = model.get_classifier()
        # others than one layer on the embedding (a BiT's convolution, a distilled DeiT's two heads) answer by their own way
        answer = classifier(embedding) if isinstance(classifier, nn.Linear) else model.forward_head(features)
        return Outputs(None, answer, tokens) if self.pooling == "projected" else Outputs(answer, embedding, tokens)


def timm_grid(model: Any, features: Any) -> torch.Tensor | None:
    """What a timm model's `forward_features` gave as `[N, D, H, W]`: a convnet's last map, a transformer's patch tokens."""
    if not isinstance(features, torch.Tensor):
        return None
    if features.ndim == 4:  # the plane's order is stated by the model, not guessed from the sizes
        return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
    return grid(features, getattr(model, "num_prefix_tokens", 0))


class TransformersEncoder(nn.Module):
    """A transformers model that answers `Outputs`.

    Args:
        body: the model without its classifier.
        classifier: from embedding to logits, or None.
        pooling: "class" is the class token, "class+patches" that beside the mean of the patch tokens, "pooler" the model's own.
        prefix: class and register tokens at the front.
    """

    tokens: bool = False

    def __init__(self, body: nn.Module, classifier: nn.Module | None, *, pooling: TokenPooling, prefix: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = classifier
        self.pooling = pooling
        self.prefix = prefix

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`."""
        found = self.body(pixel_values=x)
        if self.pooling == "pooler":
            embedding = found.pooler_output.flatten(1)
        else:
            embedding = found.last_hidden_state[:, 0]
        if self.pooling == "class+patches":
            embedding = torch.cat([embedding, found.last_hidden_state[:, self.prefix :].mean(dim=1)], dim=-1)
        tokens = grid(found.last_hidden_state, self.prefix) if self.tokens else None
        return Outputs(None if self.classifier is None else self.classifier(embedding), embedding, tokens)


class ImageTower(nn.Module):
    """The image half of an open_clip model: a timm trunk and a projection into the space shared with text.

    Args:
        architecture, arguments: of the trunk, as for `TimmEncoder`.
    """

    tokens: bool = False

    def __init__(self, trunk: nn.Module, projection: nn.Module, *, architecture: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = projection
        self.architecture = architecture
        self.arguments = arguments

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to embedding `[N, D]`, not normalised to unit length."""
        trunk: Any = self.trunk
        features = trunk.forward_features(x)
        return Outputs(None, self.projection(trunk.forward_head(features)), timm_grid(trunk, features) if self.tokens else None)


class ModuleEncoder(nn.Module):
    """A user's module that answers `Outputs`.

    Args:
        model: gives `Outputs`, a tuple (logits, embedding[, tokens]), or one tensor `[N, D]`.
        classifies: whether that one tensor is logits. They are the embedding too then: nothing else can be seen.
    """

    def __init__(self, model: nn.Module, *, classifies: bool) -> None:
        super().__init__()
        self.model = model
        self.classifies = classifies

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`."""
        answer = self.model(x)
        if isinstance(answer, tuple):
            return Outputs(*answer)
        return Outputs(answer if self.classifies else None, answer)
