"""What every loader returns: a module with one forward convention, its input contract and its provenance.

Not a loader, and free of torch, so that the front door can name these types cheaply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..spec.manifest import Ancestor
from ..spec.preprocess import Preprocess
from ..spec.task import Task, make_task

if TYPE_CHECKING:
    import torch


class Outputs(NamedTuple):
    """What a model answers.

    Attributes:
        logits: float32 `[N, K]`, or None without a classifier.
        embedding: float32 `[N, D]`.
        tokens: the features before pooling, float32 `[N, D, H, W]`, where an encoder has them and its `tokens` is switched on.
    """

    logits: torch.Tensor | None
    embedding: torch.Tensor
    tokens: torch.Tensor | None = None


class Attended(Outputs):
    """`Outputs` that say what attention layers compared, too, as an `AttentionEncoder` gives them. They unpack as `Outputs` do.

    Attributes:
        attention: queries, keys or values by name, `[N, H, T, d]`; see `attention.py`.
    """

    attention: dict[str, torch.Tensor]

    def __new__(cls, outputs: Outputs, attention: dict[str, torch.Tensor]) -> Attended:
        self = super().__new__(cls, *outputs)
        self.attention = attention
        return self


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model, ready to teach, to learn or to be exported.

    Attributes:
        module: `forward(x: float32 [N, C, S, S]) -> Outputs`. Loaders return it in eval mode; `requires_grad` is as torch
            made it. An `nn.Module` that the user passed keeps its mode, so that export can refuse one in training mode.
        preprocess: how pixels become `x`.
        task: what the logits mean; kind "embedding" where there are none.
        name: timm name, hub id, or the name of the file or folder.
        licence: as stated by the source or the user, else "unknown".
        sha256: of the weights file, so that `sha256sum` can check it; of the tensors' names and bytes where they did not
            come from one file.
        structure: hash of what the answers depend on beside the weights (`structure.py`), as `load_model` found it. Two models
            answer alike where both hashes agree. Empty for a model that was built and not loaded.
        kind: "frozen" for a graph without gradients, else "torch".
        ancestors: what the weights descend from, nearest first, the model itself not included.
    """

    module: torch.nn.Module
    preprocess: Preprocess
    task: Task
    name: str
    licence: str
    sha256: str
    structure: str = ""
    kind: Literal["torch", "frozen"] = "torch"
    ancestors: tuple[Ancestor, ...] = ()


def task_of(classes: int, labels: tuple[str, ...] = (), *, multilabel: bool = False) -> Task:
    """The task of a classifier with `classes` logits; without names the labels are "0", "1", ….

    One logit can only be a sigmoid's, so it makes a multilabel task of one label; 0 classes make an embedding.

    Raises:
        ValueError: the number of labels is not the number of classes, or labels repeat.
    """
    if classes == 0:
        return make_task("embedding")
    if labels and len(labels) != classes:
        raise ValueError(f"{len(labels)} label names for {classes} classes")
    labels = labels or tuple(str(index) for index in range(classes))
    if multilabel or classes == 1:
        return make_task("multilabel", labels)
    return make_task("binary" if classes == 2 else "multiclass", labels)
