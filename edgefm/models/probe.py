"""A classifier on a model's embedding: inside a timm model where that is its own way to classify, else on top.

Not its learning (`adapt/`) and not its run directory (`run_dir.py`, `probe_dir.py`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..spec.task import Task
from .encoder import TimmEncoder, TransformersEncoder
from .loaded import LoadedModel, Outputs
from .timm_build import rebuilds


class ProbeEncoder(nn.Module):
    """A model with a classifier on its embedding; whatever the model's own classifier says is not asked.

    Args:
        base: answers `Outputs`. head: from its embedding to logits.
    """

    def __init__(self, base: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.head = head

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]`, embedding `[N, D]` and, if asked for, the base's tokens."""
        found: Outputs = self.base(x)
        return found._replace(logits=self.head(found.embedding))

    @property
    def tokens(self) -> bool:
        """Whether the base gives its grid of features too (`encoder.py`); no attribute where the base has none."""
        return bool(self.base.tokens)

    @tokens.setter
    def tokens(self, wanted: bool) -> None:
        self.base.tokens = wanted  # type: ignore[assignment]


def with_classifier(model: LoadedModel, task: Task, width: int, *, seed: int = 0) -> LoadedModel:
    """`model` with a new classifier for `task` in the place of any that it has; every other weight is shared with it.

    Args:
        model: in eval mode. task: with labels.
        width: of its embedding, D.
        seed: of the classifier's weights: normal with standard deviation 0.01, cut off at 2, bias 0.

    Returns:
        its module is a `TimmEncoder` where a timm model can hold such a classifier, else a `ProbeEncoder`; `classifier_of`
        gives the layer.
    """
    classes = len(task.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inside = _inside(model, classes, width) if isinstance(model.module, TimmEncoder) else None
        module = inside or ProbeEncoder(base_of(model.module), nn.Linear(width, classes)).eval()
        layer = classifier_of(module)
        nn.init.trunc_normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return replace(model, module=module, task=task)


def classifier_of(module: nn.Module) -> nn.Linear:
    """The layer from embedding to logits of what `with_classifier` made, or of a run that it was saved to."""
    layer = module.head if isinstance(module, ProbeEncoder) else module.model.get_classifier()  # type: ignore[operator, union-attr]
    assert isinstance(layer, nn.Linear)
    return layer


def base_of(module: nn.Module) -> nn.Module:
    """The model without a classifier that stands on top of it."""
    if isinstance(module, ProbeEncoder):
        return module.base
    if isinstance(module, TransformersEncoder) and module.classifier is not None:
        return TransformersEncoder(module.body, None, pooling=module.pooling, prefix=module.prefix)
    return module


def _inside(model: LoadedModel, classes: int, width: int) -> TimmEncoder | None:
    """The timm model with a classifier of its own kind; None if that is not one linear layer on the very same embedding."""
    old = model.module
    assert isinstance(old, TimmEncoder)
    if old.pooling != "own":
        return None
    shared = {id(each): each for each in (*old.model.parameters(), *old.model.buffers())}
    inner: Any = copy.deepcopy(old.model, shared)
    inner.reset_classifier(classes)
    layer = inner.get_classifier()
    if not isinstance(layer, nn.Linear) or layer.in_features != width or layer.bias is None:
        return None
    arguments = old.arguments | {"num_classes": classes}
    if not rebuilds(inner, old.architecture, arguments):
        return None
    module = TimmEncoder(inner, architecture=old.architecture, arguments=arguments).eval()
    spec = model.preprocess
    x = torch.rand(1, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    x = x.to(layer.weight.device)
    with torch.no_grad():
        logits, embedding, _ = module(x)
        same = torch.allclose(embedding, old(x).embedding, rtol=1e-4, atol=1e-5)
        return module if same and torch.allclose(logits, inner(x), rtol=1e-4, atol=1e-5) else None
