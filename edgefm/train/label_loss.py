"""Cross-entropy between logits and labels, and the weights that make rare classes count. Not distillation."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

HEAVIEST = 10.0  # one image of a very rare class must not outweigh a whole batch


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Inverse frequencies, so that every class weighs the same in all: w_k = N / (K n_k), at most 10 (King and Zeng 2001).

    Args:
        labels: int64 `[N]` class indexes, or 0 and 1 `[N, K]` for multilabel. classes: K.

    Returns:
        float32 `[K]`; for multilabel `[K, 2]`, of label k's absence and presence (two classes each). A class that does not
        occur weighs 0.
    """
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=classes).astype(np.float64)
    else:
        present = labels.astype(np.float64).sum(axis=0)
        counts = np.stack([len(labels) - present, present], axis=1)
    weights = len(labels) / (counts.shape[-1] * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, np.minimum(weights, HEAVIEST), 0.0).astype(np.float32))


def label_weights(labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weight of each label: w[y_i], or w[k, y_ik] for multilabel; 0 for a label that is not known.

    Args:
        labels: y, int64 `[N]`, or 0 and 1 `[N, K]`; -1 or 255 where not known. weights: from `class_weights`.

    Returns:
        float32, as many as labels.
    """
    if labels.ndim == 1:
        return torch.where(labels < 0, 0.0, weights[labels.clamp_min(0)])
    return torch.where(labels > 1, 0.0, torch.where(labels > 0, weights[:, 1], weights[:, 0]))


def label_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, mean: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted mean cross-entropy, a scalar.

    One class per image: - sum_i w[y_i] log softmax(z_i)[y_i] / sum_i w[y_i].
    Multilabel: the same over all pairs of image and label, with sigmoid: - sum_ik w[k, y_ik] log p_ik / sum_ik w[k, y_ik],
    p_ik = sigmoid(z_ik) if y_ik = 1, else 1 - sigmoid(z_ik).

    Args:
        logits: z, float `[N, K]`. labels: y, int64 `[N]`, or 0 and 1 `[N, K]`; -1 or 255 where not known, which costs nothing.
        weights: from `class_weights`.
        mean: of the labels' weights over the whole batch, if these images are a piece of one: sum_i w[y_i] becomes N mean.
    """
    chosen = label_weights(labels, weights).to(logits.dtype)
    if labels.ndim == 1:
        losses = functional.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    else:
        losses = functional.binary_cross_entropy_with_logits(logits, labels.clamp_max(1).to(logits.dtype), reduction="none")
    mean = chosen.mean() if mean is None else mean
    return (chosen * losses).mean() / mean.clamp_min(torch.finfo(logits.dtype).tiny)
